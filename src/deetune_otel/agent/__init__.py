# SPDX-License-Identifier: Apache-2.0
"""The running agent: `agent.Agent`, and its parts, a file each."""
