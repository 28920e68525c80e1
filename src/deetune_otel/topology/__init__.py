# SPDX-License-Identifier: Apache-2.0
"""Who calls whom: series and identities become services, edges and operations."""

from __future__ import annotations
