from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from recbole_llmkt import __version__

ROOT = Path(__file__).parent.parent
DATA = ("properties", "dataset")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Build from a copy of the source; return the folder with what was built."""
    folder = tmp_path_factory.mktemp("packages")
    source = folder / "source"
    skip = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests")
    shutil.copytree(ROOT, source, ignore=skip)
    command = [sys.executable, str(source / "tools" / "build.py"), "built"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "built"


@pytest.fixture(scope="module")
def wheel(packages):
    (path,) = packages.glob("*.whl")
    return path


def test_sdist_and_wheel_are_built(packages):
    assert sorted(path.name for path in packages.iterdir()) == [
        f"recbole_llmkt-{__version__}-py3-none-any.whl",
        f"recbole_llmkt-{__version__}.tar.gz",
    ]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel outside the repository; return what runs programs with it."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)

    def run(*program):
        return subprocess.run(
            [str(part) for part in program],
            cwd=tmp_path_factory.mktemp("elsewhere"),
            env={**os.environ, "PYTHONPATH": str(target)},
            capture_output=True,
            text=True,
        )

    run.target = target
    return run


def test_the_wheel_holds_all_data_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"recbole_llmkt/{path.relative_to(ROOT).as_posix()}"
        for folder in DATA
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert wanted <= names, wanted - names
    assert "recbole_llmkt/experiment/report/report.html" in names
    assert "recbole_llmkt/recommend/page.html" in names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "recbole_llmkt").rglob("*.py")}
    assert modules <= names, f"missing in setup.cfg's packages: {modules - names}"
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]


def test_an_installed_wheel_finds_its_data(installed):
    code = (
        "import recbole_llmkt, pathlib\n"
        "from recbole_llmkt.utils import resources\n"
        "from recbole_llmkt.config import Config\n"
        "assert pathlib.Path(recbole_llmkt.__file__).is_relative_to(%r), recbole_llmkt.__file__\n"
        "assert resources.properties_dir().is_relative_to(%r)\n"
        "assert 'llmkt' in resources.names('presets')\n"
        "assert 'llmkt' in resources.names('prompts')\n"
        "profiles = resources.bundled_dir('ml-100k') / 'profiles'\n"
        "assert (profiles / 'user.jsonl').is_file() and list(profiles.glob('embeddings/*/*.npy'))\n"
        "config = Config('NeuMF', 'ml-100k', config_dict={'kt_preset': 'llmkt'}, command_line=[])\n"
        "assert config['eval_args']['order'] == 'TO'\n"
    )
    target = str(installed.target)
    done = installed(sys.executable, "-c", code % (target, target))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def checkout(tmp_path):
    """Copy what a checkout needs to run; nothing of it is installed."""
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("recbole_llmkt", *DATA):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    shutil.copy(ROOT / "run_recbole_llmkt.py", tmp_path)
    return tmp_path


def test_a_checkout_finds_its_data_beside_the_package(checkout):
    code = (
        "from recbole_llmkt.utils import resources\n"
        "print(resources.properties_dir(), resources.bundled_dir('ml-100k'))\n"
    )
    # Without site-packages, so no installation elsewhere can help.
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    folders = [str(checkout / "properties"), str(checkout / "dataset" / "ml-100k")]
    assert done.stdout.split() == folders, done.stderr


def test_a_checkout_runs_without_being_installed(checkout):
    # An editable installation would answer for recbole_llmkt.properties: leave its finder out.
    code = (
        "import runpy, sys\n"
        "sys.meta_path[:] = [hook for hook in sys.meta_path if 'Editable' not in repr(hook)]\n"
        "runpy.run_path('run_recbole_llmkt.py', run_name='__main__')\n"
    )
    flags = ["--model=BPR", "--dataset=ml-100k", "--epochs=2", "--eval_batch_size=2000000"]
    flags.append("--train_batch_size=8192")
    command = [sys.executable, "-c", code, *flags]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test result" in done.stderr


def test_the_installed_command_runs(installed):
    done = installed(sys.executable, installed.target / "bin" / "llmkt", "--help")
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


@pytest.mark.slow  # .ci/run does it, too, in an environment of its own
def test_stock_recbole_runs_in_the_same_environment(installed, tmp_path):
    (tmp_path / "script.py").write_text(
        "from recbole.quick_start import run_recbole\n"
        "settings = {'epochs': 1, 'train_batch_size': 8192, 'eval_batch_size': 2000000}\n"
        "result = run_recbole('BPR', 'ml-100k', config_dict=settings)\n"
        "assert 0.0 < result['test_result']['ndcg@10'] < 1.0\n"
    )
    done = installed(sys.executable, "-m", "recbole_llmkt.stock", tmp_path / "script.py")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def make_env(tmp_path):
    """Return what runs tools/make_env.sh where no Python is in sight but those named."""

    def run(*named):
        bare = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
        script = str(ROOT / "tools" / "make_env.sh")
        program = [shutil.which("bash"), script, str(tmp_path / "venv"), *named]
        return subprocess.run(program, env=bare, capture_output=True, text=True)

    return run


def fake_python(path, lie):
    """Write an interpreter that lies about itself."""
    path.write_text(f'#!{shutil.which("bash")}\nexec {sys.executable} -c "{lie}; $2"\n')
    path.chmod(0o755)
    return str(path)


LIES = {
    "too old": "import sys; sys.version_info = (3, 8, 18)",
    "too new": "import sys; sys.version_info = (3, 99, 0)",
    "32 bits": "import sys; sys.maxsize = 2**31 - 1",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_an_unsupported_python_is_refused_in_one_sentence(make_env, tmp_path, lie):
    python = fake_python(tmp_path / "python", lie)
    done = make_env(python)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"'{python}' is no 64-bit Python 3.9 to 3.14 with venv: ")
    assert not (tmp_path / "venv").exists()


def test_without_any_python_one_sentence_says_so(make_env, tmp_path):
    done = make_env()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("No 64-bit Python 3.9 to 3.14 with venv was found: ")
    assert not (tmp_path / "venv").exists()


def fake_tool(path, body):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("gpu", [True, False])
def test_uv_takes_the_build_of_torch_that_fits_the_machine(make_env, tmp_path, gpu):
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "python").symlink_to(sys.executable)
    fake_tool(tmp_path / "bin" / "uv", f"echo uv $@ >> {tmp_path}/calls")
    fake_tool(tmp_path / "bin" / "nvidia-smi", f"exit {int(not gpu)}")
    assert make_env().returncode == 0
    calls = (tmp_path / "calls").read_text()
    assert f"--torch-backend={'auto' if gpu else 'cpu'} --editable .[test,dev]" in calls
    assert ("--no-deps recbole==1.2.1" in calls) == (sys.version_info >= (3, 12))
