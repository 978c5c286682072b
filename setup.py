import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
  r"^__version__ = '(.+)'$", (HERE / 'tff_privacy_agg/__init__.py').read_text(), re.MULTILINE
).group(1)

setuptools.setup(
  name='tff_privacy_agg',
  version=VERSION,
  description='Differential privacy and secure aggregation for TensorFlow Federated',
  long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['tff_privacy_agg', 'tff_privacy_agg.*']),
  package_data={'tff_privacy_agg.ledger': ['schema.json']},
  python_requires='>=3.11,<3.12',
  # What the package needs. Their own pins contradict each other and ask for a jaxlib that is no
  # longer published, so install from requirements.lock (README, "Install") with --no-deps.
  install_requires=[
    'tensorflow-federated==0.87.0',
    'tensorflow-cpu==2.14.1',
    'tensorflow-privacy==0.9.0',
    'dp-accounting>=0.4.3',
    'numpy>=1.25,<2',
    'scipy>=1.9.3',
    'scikit-learn>=1.3',
    'cryptography>=48',
    'grpcio>=1.60,<1.75',
    'shtab>=1.7',
  ],
  extras_require={
    # Simulations on several hosts: `runtime.Cluster`.
    'cluster': ['distributed>=2026.8'],
    # `learning.MLflowReleaseManager`. Later versions ask for a typing_extensions that TensorFlow
    # 2.14 does not run with, and for a protobuf that it refuses.
    'mlflow': ['mlflow-skinny>=2.9,<3', 'protobuf<5', 'typing-extensions<4.6'],
  },
  entry_points={'console_scripts': ['tff-privacy-agg=tff_privacy_agg.cli:main']},
  classifiers=[
    'License :: OSI Approved :: Apache Software License',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3.11',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Topic :: Security :: Cryptography',
  ],
)
