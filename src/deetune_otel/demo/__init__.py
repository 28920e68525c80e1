# SPDX-License-Identifier: Apache-2.0
"""A small shop of real programs under load, to see the agent work on.

`stack.opened()` starts it and ends it; `program` runs one program of it, `servers` says
how each server is run, and `services/` holds the programs that are ours.
"""
