import gc

from dbclusterref.reconcile.entry import KnownConfigMap
from tests.support.bench import a_bench, change_spec
from tests.support.builders import KEY
from tests.support.fake_time import settle


async def test_the_next_look_is_that_of_whoever_wants_it_first() -> None:
    bench = a_bench()
    change_spec(bench, refreshInterval="24h", caConfigMap={"name": "orders-ca"})
    assert await bench.reconcile() == 720.0, "the ConfigMap's"
    bench.kubernetes.put_workload("app")
    change_spec(bench, restart=[{"kind": "Deployment", "name": "app"}])
    await bench.reconcile()
    bench.rotate("pw-2")
    body = bench.kubernetes.references[KEY]
    body["metadata"]["annotations"] = {"dbclusterref.io/refresh-requested-at": "now"}
    bench.kubernetes.put_reference(body)
    after = await bench.refresh()
    assert after is not None
    assert after <= 10.0, "the restart's debounce"


async def test_what_is_known_for_a_resource_goes_with_it_at_once() -> None:
    bench = a_bench()
    change_spec(bench, caConfigMap={"name": "orders-ca"})
    await bench.reconcile()
    assert known_here()
    bench.kubernetes.remove_reference(KEY)
    await settle()
    assert known_here() == [], "nobody is reconciled any more who could give it back"


async def test_a_resource_that_goes_on_looks_at_its_config_map() -> None:
    bench = a_bench()
    change_spec(bench, caConfigMap={"name": "orders-ca"})
    await bench.reconcile()
    change_spec(bench, suspend=True)
    await bench.reconcile()
    bench.kubernetes.config_maps.clear()
    change_spec(bench, suspend=False)
    await bench.reconcile()
    assert bench.kubernetes.config_maps


def known_here() -> list[object]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, KnownConfigMap) and one.item.name == "orders-ca"]
