#!/usr/bin/env python3
"""The short form of differential.py: real models beside the reference tokenizer, under a minute.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import sys

SCRIPT = pathlib.Path(__file__).with_name("differential.py")
os.execv(sys.executable, [sys.executable, str(SCRIPT), *sys.argv[1:]])
