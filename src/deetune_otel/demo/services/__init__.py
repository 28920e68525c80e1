# SPDX-License-Identifier: Apache-2.0
"""Programs of the demo, each run as a script: its file's name is its service's name.

Nothing here imports the agent, and nothing of the agent imports them.
"""
