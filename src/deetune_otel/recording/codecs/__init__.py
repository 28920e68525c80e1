# SPDX-License-Identifier: Apache-2.0
"""One module a protocol: bytes to messages and back. `contract` is their shape."""
