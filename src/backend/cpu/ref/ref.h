/* ref.h - the kernels in plain C; fills two tables of cpu.h.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_REF_REF_H
#define EMB_BACKEND_CPU_REF_REF_H

#include "backend/cpu/cpu.h"

#define EMB_CPU_REF_PANEL 64

void emb_cpu_ref_pack(const emb_linear *linear, uint32_t row0, uint32_t rows, const float *values);
float emb_cpu_ref_gelu(float x);
void emb_cpu_ref_product(const emb_cpu_product *product);
void emb_cpu_ref_attention(const emb_cpu_attention *attention);
void emb_cpu_ref_norm(float *out, const float *in, const float *add, uint32_t rows,
                      const emb_cpu_norm *norm);

#endif
