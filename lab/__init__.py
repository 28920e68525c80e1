# SPDX-License-Identifier: Apache-2.0
"""The lab: hosts in network namespaces, programs with known calls, and how their map is scored."""
