# SPDX-License-Identifier: Apache-2.0
"""Recordings of real traffic: from the kernel's bytes to a redacted file, and back to exchanges.

`model` says what an exchange is, whatever brought it; `codecs/` holds one module a protocol;
`assembly` makes exchanges of bytes; `pcapng` and `segments` are the file; `reading` opens every
kind of file; `recorder` is the wiring.
"""
