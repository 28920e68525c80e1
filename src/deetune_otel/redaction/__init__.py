# SPDX-License-Identifier: Apache-2.0
"""Exchanges without secrets: nothing is written before it went through here."""
