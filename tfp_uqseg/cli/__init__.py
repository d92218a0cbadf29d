"""The command ``uqseg``.

Exit codes: 0 done, 1 the data or the run cannot be used, 2 wrong arguments, 130
stopped by Ctrl-C.
"""

from tfp_uqseg.cli.arguments import parser
from tfp_uqseg.cli.command import main

__all__ = ["main", "parser"]
