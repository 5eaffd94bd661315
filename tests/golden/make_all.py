"""Makes every golden file of the authors' code anew: about two minutes and 3 GB of memory on one core.

REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 make_all.py
Needs torch (the version that the files name) and numpy. Each script can also be run alone.
"""
import os
import subprocess
import sys

folder = os.path.dirname(os.path.abspath(__file__))
for script in ("diffusion", "methods", "networks", "samplers", "unet_options"):
    subprocess.run([sys.executable, os.path.join(folder, f"make_{script}.py")], check=True)
