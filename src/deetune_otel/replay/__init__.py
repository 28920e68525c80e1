# SPDX-License-Identifier: Apache-2.0
"""Recorded requests, sent again to a target, and what it answered."""
