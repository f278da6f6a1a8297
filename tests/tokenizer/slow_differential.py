#!/usr/bin/env python3
"""The long form of differential.py: every code point, and 200 MB of documentation.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import sys

SCRIPT = pathlib.Path(__file__).with_name("differential.py")
os.execv(sys.executable, [sys.executable, str(SCRIPT), "--long", *sys.argv[1:]])
