/* SPDX-License-Identifier: Apache-2.0 */
#include "format/internal.h"

#include "base/cleanup.h"

/* TensorProto.DataType of onnx.proto. */
static const struct fmt_onnx_type TYPES[] = {
        [0] = {"UNDEFINED", NULL, FMT_PRECISION_NONE, 0},
        [1] = {"FLOAT", "FP32", FMT_FLOAT32, 32},
        [2] = {"UINT8", "UINT8", FMT_UINT8, 8},
        [3] = {"INT8", "INT8", FMT_INT8, 8},
        [4] = {"UINT16", "UINT16", FMT_UINT16, 16},
        [5] = {"INT16", "INT16", FMT_INT16, 16},
        [6] = {"INT32", "INT32", FMT_INT32, 32},
        [7] = {"INT64", "INT64", FMT_INT64, 64},
        [8] = {"STRING", "BYTES", FMT_PRECISION_NONE, 0},
        [9] = {"BOOL", "BOOL", FMT_BOOL, 8},
        [10] = {"FLOAT16", "FP16", FMT_FLOAT16, 16},
        [11] = {"DOUBLE", "FP64", FMT_FLOAT64, 64},
        [12] = {"UINT32", "UINT32", FMT_UINT32, 32},
        [13] = {"UINT64", "UINT64", FMT_UINT64, 64},
        [14] = {"COMPLEX64", NULL, FMT_COMPLEX64, 64},
        [15] = {"COMPLEX128", NULL, FMT_COMPLEX128, 128},
        [16] = {"BFLOAT16", "BF16", FMT_BFLOAT16, 16},
        [17] = {"FLOAT8E4M3FN", NULL, FMT_FLOAT8_E4M3, 8},
        [18] = {"FLOAT8E4M3FNUZ", NULL, FMT_PRECISION_NONE, 8},
        [19] = {"FLOAT8E5M2", NULL, FMT_FLOAT8_E5M2, 8},
        [20] = {"FLOAT8E5M2FNUZ", NULL, FMT_PRECISION_NONE, 8},
        [21] = {"UINT4", NULL, FMT_PRECISION_NONE, 4},
        [22] = {"INT4", NULL, FMT_PRECISION_NONE, 4},
        [23] = {"FLOAT4E2M1", NULL, FMT_PRECISION_NONE, 4},
        [24] = {"FLOAT8E8M0", NULL, FMT_PRECISION_NONE, 8},
        [25] = {"UINT2", NULL, FMT_PRECISION_NONE, 2},
        [26] = {"INT2", NULL, FMT_PRECISION_NONE, 2},
};

const struct fmt_onnx_type *fmt_onnx_type(uint64_t id)
{
        static const struct fmt_onnx_type UNKNOWN = {NULL, NULL, FMT_PRECISION_NONE, 0};

        return id < ARRAY_LEN(TYPES) ? &TYPES[id] : &UNKNOWN;
}
