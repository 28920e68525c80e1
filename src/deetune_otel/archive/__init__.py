# SPDX-License-Identifier: Apache-2.0
"""Files of recordings: written so that a kill harms nothing, read with every fault named."""
