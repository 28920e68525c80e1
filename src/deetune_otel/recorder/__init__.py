# SPDX-License-Identifier: Apache-2.0
"""What records: from the kernel's pieces to a file with a manifest that balances."""
