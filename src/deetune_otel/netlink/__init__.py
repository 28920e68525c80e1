# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells over netlink: connection tracking, in any network namespace."""

from __future__ import annotations
