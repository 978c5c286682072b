# %%
# Setup. With Python 3.11 and TensorFlow Federated this does nothing more. Elsewhere it makes an
# environment that has them (470 MB, once) and runs the following cells there.
import importlib.util
import pathlib
import subprocess
import sys

REPOSITORY = ''  # owner/name on GitHub; without it, an uploaded wheel or the folder is installed

if importlib.util.find_spec('tff_privacy_agg') is None:
  found = [str(wheel.resolve()) for wheel in pathlib.Path().glob('tff_privacy_agg-*.whl')]
  found += [folder for folder in ('.', '..') if pathlib.Path(folder, 'setup.py').exists()]
  found += [f'git+https://github.com/{REPOSITORY}'] if REPOSITORY else []
  if not found:
    raise FileNotFoundError(
      'tff_privacy_agg is neither installed nor here. Upload its wheel next to this notebook, or '
      'open the notebook in a clone of the project; then run this cell again.'
    )
  subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', found[0]], check=True)

# %load_ext tff_privacy_agg.notebook
