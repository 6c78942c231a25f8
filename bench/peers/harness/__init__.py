# SPDX-License-Identifier: Apache-2.0
"""The harness of bench/peers/run. peer.py is where to begin."""
