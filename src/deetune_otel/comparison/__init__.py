# SPDX-License-Identifier: Apache-2.0
"""What differs between an answer that was recorded and one that came now.

`values` compares two JSON-like values; `noise` knows values that differ at every run.
"""
