/* describe.h - plan, counters and model as Python dicts.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_PYTHON_DESCRIBE_H
#define EMB_PYTHON_DESCRIBE_H

#include "core.h"

/* Each gives a new dict, or NULL with an exception. */
PyObject *emb_python_describe_plan(const emb_plan *plan);
PyObject *emb_python_describe_region(const emb_region *region);
PyObject *emb_python_describe_stats(const emb_engine_stats_t *stats, bool open,
                                    const emb_python_engine *engine);
PyObject *emb_python_describe_model(const emb_model_info *info, const emb_specials *specials);

#endif
