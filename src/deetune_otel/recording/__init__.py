# SPDX-License-Identifier: Apache-2.0
"""Recordings of real traffic: what becomes of the bytes.

`model` says what an exchange is, whatever brought it; `codecs/` holds one module a protocol;
`assembly` finds requests and their responses in the pieces of a connection.
"""
