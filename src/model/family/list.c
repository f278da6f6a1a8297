/* list.c - the list of families.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "model/family/family.h"

const emb_family *const emb_families[] = {&emb_family_bert, &emb_family_mpnet, NULL};

const emb_family *emb_family_find(const char *name) {
    for (size_t i = 0; emb_families[i]; i++)
        if (strcmp(emb_families[i]->name, name) == 0) return emb_families[i];
    return NULL;
}
