import pathlib
import subprocess
import sys

from tff_privacy_agg import secagg

PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'secagg.md').read_text(encoding='utf-8')


def test_the_worked_example_of_the_docstring_runs():
  harsher = secagg.find_parameters(1000, 0.05, 0.6, mode='semi_honest')
  assert f'k = {harsher.k} and t = {harsher.t}' in PAGE


def test_the_package_needs_no_tensorflow():
  code = (
    'import sys; import tff_privacy_agg.secagg; '
    'print(sorted({name.split(".")[0] for name in sys.modules if name.startswith("tensorflow")}))'
  )
  found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert found.stdout.strip() == '[]'


def test_all_names_exist():
  assert sorted(set(secagg.__all__)) == sorted(secagg.__all__)
  for name in secagg.__all__:
    assert getattr(secagg, name) is not None
