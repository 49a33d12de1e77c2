# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: a private PostgreSQL, a running mlctld, clients for both doors."""
