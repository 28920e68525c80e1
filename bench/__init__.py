# SPDX-License-Identifier: Apache-2.0
"""What deetune costs, measured side by side: script/bench."""
