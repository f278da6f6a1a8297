/* test_cpp.cpp - the public header and library from C++: plan, encode, read a row.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "embound.h"

#include <cstdio>
#include <vector>

int main() {
    emb_error error{};
    emb_machine machine{};
    emb_model *model = nullptr;
    emb_plan plan{};
    emb_engine *engine = nullptr;
    emb_limits limits = emb_limits_default();
    if (emb_machine_probe(&machine, nullptr, &error) != EMB_OK ||
        emb_model_open(&model, "tests/data/tiny-bert", &error) != EMB_OK ||
        emb_plan_make(&plan, model, &limits, &machine, &error) != EMB_OK ||
        emb_engine_open(&engine, model, &plan, &error) != EMB_OK) {
        std::printf("%s\n0 passed, 1 failed, 0 skipped\n", error.message);
        return 1;
    }
    std::vector<float> row(plan.dim);
    emb_text text{};
    text.data = "from C++";
    text.length = 8;
    bool good = emb_engine_embed(row.data(), engine, &text, 1, &error) == EMB_OK;
    float square = 0;
    for (float value : row) square += value * value;
    good = good && square > 0.999f && square < 1.001f;
    emb_engine_close(engine);
    emb_model_close(model);
    std::printf("%d passed, %d failed, 0 skipped\n", good, !good);
    return good ? 0 : 1;
}
