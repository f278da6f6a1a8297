#!/usr/bin/env python3
"""Peak memory of L6 and mpnet in f32 under each budget: see memory_matrix.py.

SPDX-License-Identifier: Apache-2.0
"""
import memory_matrix

if __name__ == "__main__":
    memory_matrix.run_matrix("f32")
