/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

extern const char TEMPLATE_ENVIRONMENT[];
extern const char TEMPLATE_POLICY[];
extern const char TEMPLATE_MODEL[];
extern const char TEMPLATE_GITHUB[];
extern const char TEMPLATE_GITLAB[];
