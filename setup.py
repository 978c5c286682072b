import pathlib
import re

import setuptools
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
  r"^__version__ = '(.+)'$", (HERE / 'tff_privacy_agg/__init__.py').read_text(), re.MULTILINE
).group(1)

# TFF's wheel, and the versions of TensorFlow that it is built for, exist there only.
HAS_TFF = "python_version == '3.11' and sys_platform == 'linux' and platform_machine == 'x86_64'"


class BuildWithLock(build_py):
  """Puts the lock into the wheel, from which `tff_privacy_agg.notebook` makes an environment."""

  def run(self):
    super().run()
    if not self.editable_mode:
      self.copy_file(
        str(HERE / 'requirements.lock'), f'{self.build_lib}/tff_privacy_agg/requirements.lock'
      )


setuptools.setup(
  name='tff_privacy_agg',
  version=VERSION,
  description='Differential privacy and secure aggregation for TensorFlow Federated',
  long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['tff_privacy_agg', 'tff_privacy_agg.*']),
  package_data={'tff_privacy_agg': ['py.typed'], 'tff_privacy_agg.ledger': ['schema.json']},
  python_requires='>=3.11',
  # What needs TFF needs requirements.lock (README, "Install"): the pins of the three packages with
  # a marker contradict each other and ask for a jaxlib that is no longer published, so pip cannot
  # solve them. Everywhere else, pip installs the core: all that needs no TensorFlow.
  install_requires=[
    f'tensorflow-federated==0.87.0; {HAS_TFF}',
    f'tensorflow-cpu==2.14.1; {HAS_TFF}',
    f'tensorflow-privacy==0.9.0; {HAS_TFF}',
    f'scikit-learn>=1.3; {HAS_TFF}',
    'dp-accounting>=0.4.3',
    'numpy>=1.25',
    'scipy>=1.9.3',
    'cryptography>=48',
    'grpcio>=1.60',
    'shtab>=1.7',
  ],
  # No extras: pip cannot solve them with the pins above. `make env-dask`, `env-mlflow` and
  # `env-prometheus` install from locks.
  cmdclass={'build_py': BuildWithLock},
  entry_points={'console_scripts': ['tff-privacy-agg=tff_privacy_agg.cli:main']},
  classifiers=[
    'License :: OSI Approved :: Apache Software License',
    'Operating System :: OS Independent',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Topic :: Security :: Cryptography',
  ],
)
