import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shard_server import serving
from tiny import HOW, photos_in, tiny

import resnets
from resnets import machine, predict
from resnets.errors import MissingExtra, WorkFailed
from resnets.prediction import cluster, node
from resnets.prediction.answers import Wanted
from resnets.prediction.bulk import predict_to
from resnets.prediction.cluster import predict_on_cluster
from resnets.prediction.node import Job, Node, read_list, write_list
from resnets.prediction.paths import Listed, Part
from resnets.prediction.record import CLUSTER, Record

IMAGES, BROKEN = 60, 7
PARTS = 8  # files, of chunks of 8 images


class OneByOne:
    """Ray, as far as it is used: one chunk after the other on this thread, each `times` times."""

    DataContext = SimpleNamespace(get_current=lambda: SimpleNamespace(enable_progress_bars=True))
    exceptions = SimpleNamespace(RayError=RuntimeError)
    connected = True
    times = 1
    stops_at = None  # a chunk's first position

    def __init__(self):
        self.data = self
        self.machines = [{"Alive": True, "Resources": {"CPU": 2}}, {"Alive": False, "Resources": {"CPU": 64}}]
        self.chunks = []

    def is_initialized(self):
        return self.connected

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address="here:6379")

    def nodes(self):
        return self.machines

    def cluster_resources(self):
        return {"CPU": 2}

    def put(self, value):
        return value

    get = put

    def ActorPoolStrategy(self, **how):  # noqa: N802
        return how

    def from_items(self, items, override_num_blocks):
        assert override_num_blocks == len(items)
        self.chunks = items
        return self

    def map_batches(self, kind, fn_constructor_args, batch_size, **how):
        assert batch_size == 1
        self.node = kind(*fn_constructor_args)
        return self

    def iter_rows(self):
        for chunk in self.chunks:
            if chunk["first"] == self.stops_at:
                raise RuntimeError("trace\nValueError: not this\nOSError: the disk is full\nmore of the trace")
            for _ in range(self.times):
                answer = self.node({name: np.array([value]) for name, value in chunk.items()})
            yield {name: values[0] for name, values in answer.items()}


@pytest.fixture
def ray(monkeypatch):
    fake = OneByOne()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.data", fake)
    monkeypatch.setattr(node, "_own_cores", lambda count: {})  # this process is the other tests' too
    return fake


@pytest.fixture(scope="module")
def model():
    return tiny(HOW)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """0.png … 59.png, of which one is text."""
    return photos_in(tmp_path_factory.mktemp("cluster") / "photos", broken=[BROKEN])


def check_same(out, expected):
    """That a folder has each position once, with what `predict` says of its path."""
    rows = sorted(pq.read_table(out).to_pylist(), key=lambda row: row["position"])
    assert [row["position"] for row in rows] == list(range(len(expected)))
    for row, found in zip(rows, expected, strict=True):
        assert (row["path"], row["error"]) == (found.path, found.error)
        ends = ("", "_2", "_3")[: len(found.labels)]
        assert tuple(row[f"label{end}"] for end in ends) == found.labels
        assert [row[f"score{end}"] for end in ends] == pytest.approx(found.scores, abs=1e-5)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# What is written, without a cluster


@pytest.mark.parametrize("name", ["labels.parquet", "labels"])
def test_the_same_as_on_one_machine(ray, model, photos, tmp_path, name, capsys):
    written = predict_on_cluster(model, photos, tmp_path / name)
    check_same(tmp_path / name, list(predict(model, [photos])))
    columns = pq.read_table(tmp_path / name).column_names
    assert columns == ["path", *(f"{kind}{end}" for end in ("", "_2", "_3", "_4", "_5") for kind in ("label", "score")),
                       "error", "position"]  # fmt: skip
    assert (written.out, written.predicted, written.failed, written.already) == (tmp_path / name, IMAGES - 1, 1, 0)
    assert written.status() == 0 and written.images_per_second > 0
    assert names(tmp_path) == [name]
    assert names(tmp_path / name) == ["_resnets.json", *(f"part-{first:012}.parquet" for first in range(0, IMAGES, 8))]
    said = json.loads((tmp_path / name / "_resnets.json").read_text())
    expected = {"predicted": IMAGES - 1, "failed": 1, "images": IMAGES, "model": model.sha256, "top": 5, "part": None}
    assert said == said | expected
    assert capsys.readouterr().out == ""


def test_the_rows_are_in_order_of_position_as_read(ray, model, photos, tmp_path):
    predict_on_cluster(model, [photos], tmp_path / "labels")
    assert pq.read_table(tmp_path / "labels")["position"].to_pylist() == list(range(IMAGES))


def test_the_likeliest_above_a_score_and_features(ray, model, photos, tmp_path):
    how = {"top": 2, "above": 0.4, "features": True}
    predict_on_cluster(model, [photos], tmp_path / "labels", **how)
    expected = list(predict(model, [photos], **how))
    check_same(tmp_path / "labels", expected)
    for vector, found in zip(pq.read_table(tmp_path / "labels")["features"].to_pylist(), expected, strict=True):
        assert vector is None if found.features is None else vector == pytest.approx(found.features, abs=1e-4)


def test_a_chunk_done_twice_has_its_rows_once(ray, model, photos, tmp_path):
    ray.times = 2
    predict_on_cluster(model, [photos], tmp_path / "labels")
    check_same(tmp_path / "labels", list(predict(model, [photos])))


@pytest.mark.parametrize("parts", [1, 3])
def test_the_parts_are_the_whole(ray, model, photos, tmp_path, parts):
    several = [tmp_path / f"labels-{number}-of-{parts}.parquet" for number in range(1, parts + 1)]
    for number, out in enumerate(several, 1):
        written = predict_on_cluster(model, [photos], tmp_path / "labels.parquet", part=f"{number}/{parts}")
        assert written.out == out
    assert names(tmp_path) == sorted(out.name for out in several)
    paths = [path for out in several for path in pq.read_table(out)["path"].to_pylist()]
    positions = [position for out in several for position in pq.read_table(out)["position"].to_pylist()]
    assert paths == [found.path for found in predict(model, [photos])]
    assert positions == list(range(IMAGES))


@pytest.mark.parametrize("count", [0, 1, 59, 60])
def test_a_part_is_the_same_block_as_of_a_list(count):
    images = Listed(map(str, range(count)))
    for part in (Part(1, 1), Part(2, 3), Part(3, 3), Part(60, 60)):
        assert part.of_images(images) == list(map(str, cluster._block(count, part)))


@pytest.mark.parametrize(("paths", "part"), [("", None), ("0.png\n1.png\n", "1/3")])
def test_no_images_are_a_table_of_no_rows(ray, model, tmp_path, paths, part):
    (tmp_path / "list.csv").write_text(f"path\n{paths}")
    written = predict_on_cluster(model, [tmp_path / "list.csv"], tmp_path / "labels", part=part)
    assert (written.predicted, written.failed, written.status()) == (0, 0, 0)
    assert pq.read_table(written.out).num_rows == 0


def test_relative_paths_open_from_where_the_command_ran(ray, model, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    expected = list(predict(model, ["1.png", "2.png"]))
    work = Node.__call__

    def elsewhere(self, chunk):
        with monkeypatch.context() as there:
            there.chdir(tmp_path)
            return work(self, chunk)

    monkeypatch.setattr(Node, "__call__", elsewhere)
    predict_on_cluster(model, ["1.png", "2.png"], tmp_path / "labels")
    check_same(tmp_path / "labels", expected)


def test_images_in_tar_files_are_predicted_too(ray, model, photos, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "shards.tar", "w") as tar:
        for number in range(10):
            tar.add(photos / f"{number}.png", f"{number}.png")
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path) as (address, _):
        given = ["shards.tar", f"{address}/shards.tar"]
        expected = list(predict(model, given))
        assert [answer.path for answer in expected[::10]] == [f"{tar}/0.png" for tar in given]
        predict_on_cluster(model, given, tmp_path / "labels")
    check_same(tmp_path / "labels", expected)


def test_an_empty_folder_is_written_and_an_export_predicts(ray, model, photos, tmp_path):
    from resnets.exporting import export

    (tmp_path / "labels").mkdir()
    model.save(tmp_path / "tiny.safetensors")
    folder = export(tmp_path / "tiny.safetensors", tmp_path / "export", format="openvino", input="crops", data=photos)
    predict_on_cluster(folder, [photos], tmp_path / "labels")
    check_same(tmp_path / "labels", list(predict(folder, [photos])))


# Going on


def test_a_run_that_failed_goes_on(ray, model, photos, tmp_path, caplog):
    ray.stops_at = 24
    with pytest.raises(WorkFailed, match="the cluster failed: OSError: the disk is full"):
        predict_on_cluster(model, [photos], tmp_path / "labels")
    assert names(tmp_path) == [".labels.cluster"]
    assert "the same command goes on" in caplog.text
    (tmp_path / ".labels.cluster" / ".part-000000000024.parquet.xyz.part").write_bytes(b"of a node that died")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / ".labels.cluster").glob("*.parquet")}
    ray.stops_at = None
    ray.machines.append({"Alive": True, "Resources": {"CPU": 512}})  # as the chunks were they stay
    written = predict_on_cluster(model, [photos], tmp_path / "labels")
    assert (written.already, written.predicted, written.failed) == (24, IMAGES - 1, 1)
    assert before == {name: (tmp_path / "labels" / name).stat().st_mtime_ns for name in before}
    check_same(tmp_path / "labels", list(predict(model, [photos])))
    assert len(names(tmp_path / "labels")) == 1 + PARTS


@pytest.mark.parametrize(
    "other", [{"top": 3}, {"above": 0.5}, {"features": True}, {"exact": True}, {"mirror": True}, {"paths": ["0.png"]}]
)
def test_a_run_that_was_begun_otherwise_is_refused(ray, model, photos, tmp_path, other):
    ray.stops_at = 24
    with pytest.raises(WorkFailed):
        predict_on_cluster(model, [photos], tmp_path / "labels")
    how = {"paths": [photos], **other}
    with pytest.raises(ValueError, match=f"begun otherwise: .*{'inputs' if 'paths' in other else next(iter(other))}"):
        predict_on_cluster(model, out=tmp_path / "labels", **how)
    ray.stops_at = None
    assert predict_on_cluster(model, [photos], tmp_path / "labels").already == 24


def test_a_finished_table_stays_as_it_is(ray, model, photos, tmp_path):
    predict_on_cluster(model, [photos], tmp_path / "labels")
    before = {path.name: path.read_bytes() for path in (tmp_path / "labels").iterdir()}
    written = predict_on_cluster(model, [photos], tmp_path / "labels")
    assert (written.already, written.predicted, written.failed) == (IMAGES, IMAGES - 1, 1)
    with pytest.raises(ValueError, match="begun otherwise: top was 5 and is now 3"):
        predict_on_cluster(model, [photos], tmp_path / "labels", top=3)
    assert {path.name: path.read_bytes() for path in (tmp_path / "labels").iterdir()} == before
    assert names(tmp_path) == ["labels"]


def test_one_machines_run_and_a_clusters_are_not_each_others(ray, model, photos, tmp_path):
    ray.stops_at = 24
    with pytest.raises(WorkFailed):
        predict_on_cluster(model, [photos], tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match="was begun with --cluster"):
        predict_to(model, [photos], tmp_path / "labels.parquet")
    ray.stops_at = None
    assert predict_on_cluster(model, [photos], tmp_path / "labels.parquet").already == 24
    predict_to(model, [photos], tmp_path / "other.parquet")
    (tmp_path / "other.parquet").unlink()  # as if killed: its record stays
    with pytest.raises(ValueError, match="was begun without --cluster"):
        predict_on_cluster(model, [photos], tmp_path / "other.parquet")


def test_a_run_that_did_nothing_leaves_nothing(ray, model, photos, tmp_path):
    ray.stops_at = 0
    with pytest.raises(WorkFailed):
        predict_on_cluster(model, [photos], tmp_path / "labels")
    with pytest.raises(ValueError, match="nothing matches"):
        predict_on_cluster(model, [str(tmp_path / "*.jpg")], tmp_path / "labels")
    assert names(tmp_path) == []


def test_one_run_at_a_time(ray, model, photos, tmp_path):
    with Record(tmp_path / "labels", CLUSTER).locked(), pytest.raises(WorkFailed, match="another process"):
        predict_on_cluster(model, [photos], tmp_path / "labels")


# What can't be


@pytest.mark.parametrize(("out", "said"), [
    ("labels.csv", "not labels.csv"), ("none/labels", "there is no folder"), ("full", "no empty folder"),
    ("file.parquet", "no empty folder"), (None, "--out"),
])  # fmt: skip
def test_where_it_cant_write(ray, model, photos, tmp_path, out, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file.parquet").write_text("mine")
    with pytest.raises(ValueError, match=said):
        predict_on_cluster(model, [photos], out and tmp_path / out)
    assert names(tmp_path) == ["file.parquet", "full"] and names(tmp_path / "full") == ["mine.txt"]


@pytest.mark.parametrize("how", [{"top": 0}, {"above": 2}, {"part": "3/2"}, {"engine": "abacus"}, {"cpus": 0}])
def test_options_that_cant_be_are_refused_before_a_cluster_is_sought(ray, model, photos, tmp_path, how, monkeypatch):
    monkeypatch.setattr(cluster, "connected", None)
    with pytest.raises(ValueError):
        predict_on_cluster(model, [photos], tmp_path / "labels", **how)


def test_a_cluster_without_room(ray, model, photos, tmp_path):
    with pytest.raises(WorkFailed, match="no node of the cluster has 4 CPUs"):
        predict_on_cluster(model, [photos], tmp_path / "labels", cpus=4)


def test_another_cluster_than_the_connected_one(ray, model, photos, tmp_path):
    with pytest.raises(ValueError, match="here:6379, not to there:6379"):
        predict_on_cluster(model, [photos], tmp_path / "labels", cluster="there:6379")


@pytest.mark.parametrize("address", ["nonsense", "http://head:8265", "ray://head:10001"])
def test_what_is_no_address(ray, model, photos, tmp_path, address):
    ray.connected = False
    with pytest.raises(ValueError, match="auto or HOST:PORT"):
        predict_on_cluster(model, [photos], tmp_path / "labels", cluster=address)


@pytest.mark.parametrize("named", [True, False])
def test_an_address_where_nothing_listens(ray, model, photos, tmp_path, monkeypatch, named):
    ray.connected = False
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(WorkFailed, match=f"no Ray cluster answers at {address}"):
            predict_on_cluster(model, [photos], tmp_path / "labels", cluster=address if named else "auto")
    assert names(tmp_path) == []


@pytest.mark.parametrize("missing", ["ray", "ray.data"])
def test_without_ray_the_command_that_brings_it_is_said(ray, model, photos, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=r'pip install "resnets\[cluster\]"'):
        predict_on_cluster(model, [photos], tmp_path / "labels")


def test_the_driver_imports_neither_ray_nor_torch():
    code = "import sys; import resnets.prediction.cluster; sys.exit(bool({'ray', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# A node


def job(folder, **how):
    return Job(**{"folder": str(folder), "here": "/", "wanted": Wanted(2), "engine": "openvino", "precision": "float32",
                  "exact": False, "mirror": False, "cpus": 1, **how})  # fmt: skip


@pytest.mark.parametrize(("how", "said"), [
    ({"version": "0.0.1"}, f"it has resnets {resnets.__version__}, and this run is of 0.0.1"),
    ({"precision": "bf16"}, "it runs openvino, float32, and this run is openvino, bf16"),
    ({"engine": "onnxruntime", "precision": "bf16"}, "no bf16"),
])  # fmt: skip
def test_a_node_that_is_not_as_the_others_says_so(ray, model, photos, tmp_path, monkeypatch, how, said):
    monkeypatch.setattr("resnets.prediction.openvino.engine.capabilities", lambda: [])
    write_list(tmp_path, [str(photos / "1.png")])
    answer = Node(job(tmp_path, **how), node.model_files(model))({"first": [0], "last": [1]})
    assert answer["predicted"] == [0] and said in answer["error"][0]
    assert names(tmp_path) == ["paths.arrow"]


def test_a_node_without_the_storage_says_so(ray, model, photos, tmp_path):
    (answer,) = Node(job(tmp_path / "none"), node.model_files(model))({"first": [0], "last": [1]})["error"]
    assert answer.startswith(f"the node {socket.gethostname()}: ") and "storage that every node has" in answer


def test_the_list_is_read_from_any_position(tmp_path, monkeypatch):
    monkeypatch.setattr(node, "TOGETHER", 4)
    paths = [f"photos/{number}.png" for number in range(10)] + [os.fsdecode(b"caf\xe9.png"), "ünï\ncode.png"]
    count, digest = write_list(tmp_path, iter(paths))
    assert count == len(paths)
    for first in range(count + 1):
        for last in range(first, count + 1):
            assert list(read_list(tmp_path, first, last)) == paths[first:last]
    assert write_list(tmp_path, iter(paths))[1] == digest != write_list(tmp_path, iter(paths[::-1]))[1]


@pytest.mark.parametrize(("images", "predictors", "size"), [
    (0, 1, 8), (5, 64, 8), (400, 2, 16), (10**6, 2, 4096), (10**9, 1000, 50_000), (10**9, 1, 50_000),
])  # fmt: skip
def test_a_chunk_is_whole_batches_and_there_are_not_too_many(images, predictors, size):
    assert cluster._size(images, predictors) == size


@pytest.mark.skipif(sys.platform != "linux" or machine.cores() < 2, reason="needs Linux and two cores")
def test_predictors_on_one_machine_keep_to_cores_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    every, found, held = os.sched_getaffinity(0), [], []

    def keep():  # an affinity is a thread's own
        held.append(node._own_cores(1))
        found.append(os.sched_getaffinity(0))
        assert machine.cores() == 1

    for _ in range(len(every) + 1):  # one more than there are cores for
        thread = threading.Thread(target=keep)
        thread.start()
        thread.join()
    assert {core for cores in found[:-1] for core in cores} == every
    assert len(found[-1]) == 1 and os.sched_getaffinity(0) == every
    for file in [file for files in held for file in files.values()]:
        file.close()


# Ray itself


def from_ray(test):
    """A test that starts Ray: minutes; what Ray warns of itself, at its import, its start and its end, is not ours."""
    for warning in ("ignore::DeprecationWarning:ray[.].*",):
        test = pytest.mark.filterwarnings(warning)(test)
    return pytest.mark.slow(test)


@pytest.fixture
def slow_photos(tmp_path_factory):
    """A manifest of 320 paths of photos that take long to decode, one of them of text."""
    folder = tmp_path_factory.mktemp("slow")
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    for number in range(8):
        Image.fromarray(np.roll(noise, number, 0)).save(folder / f"{number}.png", compress_level=1)
    (folder / "broken.png").write_text("no image")
    paths = ["broken.png" if number == 100 else f"{number % 8}.png" for number in range(320)]
    (folder / "list.csv").write_text("\n".join(["path", *paths]))
    return folder / "list.csv"


def every_core_has_work(ray):
    return not ray.available_resources().get("CPU")


@from_ray
def test_a_node_that_is_killed_midway_loses_no_row_and_doubles_none(model, slow_photos, tmp_path, capfd):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100_000_000})
    out, killed, over = tmp_path / "labels.parquet", [], threading.Event()

    def kill():
        parts = tmp_path / ".labels.parquet.cluster"
        while not (len(list(parts.glob("*.parquet"))) >= 3 and ray.is_initialized() and every_core_has_work(ray)):
            if over.wait(0.05):
                return
        nodes.remove_node(second, allow_graceful=False)
        killed.append(len(list(parts.glob("*.parquet"))))

    try:
        second = nodes.add_node(num_cpus=1, object_store_memory=100_000_000)
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        written = predict_on_cluster(model, [slow_photos], out, cluster=nodes.address)
        killer.join(60)
    finally:
        over.set()
        nodes.shutdown()
    assert not ray.is_initialized()
    assert 3 <= killed[0] < 20
    assert capfd.readouterr().out == ""
    assert (written.predicted, written.failed, written.already) == (319, 1, 0)
    check_same(out, list(predict(model, [slow_photos])))
    assert len(names(out)) == 1 + 20


@from_ray
def test_a_cluster_on_this_machine_is_begun_and_ended_and_says_nothing_on_standard_output(
    model, photos, tmp_path, monkeypatch, capfd, caplog
):
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(photos)
    with caplog.at_level("INFO", logger="resnets"):
        written = predict_on_cluster(model, ["."], tmp_path / "labels", features=True)
    assert not ray.is_initialized()
    assert "no Ray cluster is running; one is started on this machine" in caplog.text
    assert (written.predicted, written.failed) == (IMAGES - 1, 1)
    check_same(tmp_path / "labels", list(predict(model, ["."])))
    assert capfd.readouterr().out == ""


@from_ray
def test_a_connection_that_was_there_is_used_and_stays(model, photos, tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        predict_on_cluster(model, [photos / "1.png"], tmp_path / "labels")
        assert ray.is_initialized()
        with pytest.raises(WorkFailed, match="no node of the cluster has 9 CPUs"):
            predict_on_cluster(model, [photos / "1.png"], tmp_path / "others", cpus=9)
        (answer,) = cluster._answers(ray, job(tmp_path / "none"), {}, [cluster.Chunk(0, 1)], cluster.How(gpus=0))
        assert answer["error"].startswith(f"the node {socket.gethostname()}: ")
    finally:
        ray.shutdown()
