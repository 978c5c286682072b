"""`python -m tools.conformance FILE`."""

import sys

from tools.conformance import main

sys.exit(main())
