"""Train and test one model with knowledge transfer; same flags as RecBole's run_recbole.py.

Example: python run_recbole_llmkt.py --model=NeuMF --dataset=ml-100k --kt_weight=0.3
"""

from __future__ import annotations

import argparse

from recbole_llmkt.cli.options import yaml_files
from recbole_llmkt.quick_start import run
from recbole_llmkt.utils.exceptions import LLMKTError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", "-m", default="BPR", help="name of the model")
    parser.add_argument("--dataset", "-d", default="ml-100k", help="name of the dataset")
    parser.add_argument(
        "--config_files", action="append", default=[], help='YAML files: "a.yaml b.yaml"'
    )
    parser.add_argument("--nproc", type=int, default=1, help="processes on this machine")
    parser.add_argument("--ip", default="localhost", help="address of the first machine")
    parser.add_argument("--port", default="5678", help="port of the first machine")
    parser.add_argument("--world_size", type=int, default=-1, help="processes on all machines")
    parser.add_argument(
        "--group_offset", type=int, default=0, help="rank of this machine's first process"
    )
    # Config reads every other --key=value from the command line.
    arguments, _ = parser.parse_known_args()
    try:
        run(
            arguments.model,
            arguments.dataset,
            config_file_list=yaml_files(arguments.config_files) or None,
            nproc=arguments.nproc,
            world_size=arguments.world_size,
            ip=arguments.ip,
            port=arguments.port,
            group_offset=arguments.group_offset,
        )
    except LLMKTError as error:
        parser.exit(2, f"Error: {error}\n")
