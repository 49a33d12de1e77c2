# SPDX-License-Identifier: Apache-2.0
# Code made at build time: statements from server/**/*.sql, routes and decoders from include/api/*.yaml.
set(MLC_GENERATED_DIR ${CMAKE_BINARY_DIR}/gen)
set(MLC_GENERATED "")
