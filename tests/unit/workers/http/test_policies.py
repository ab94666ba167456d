"""What each host is asked, and how often."""

from workers.http.policies import Policies, Policy, standard


def test_wikis_of_all_languages_share_one_bucket_with_the_operators_rate() -> None:
    found = standard(0.5)
    policy = found.of("en.wikipedia.org")
    assert policy.rate == 0.5
    assert policy.concurrency == 3
    assert policy.without_redis == "closed"
    assert found.bucket("en.wikipedia.org") == found.bucket("de.wikipedia.org") == found.bucket("wikipedia.org")
    assert found.bucket("www.wikidata.org") != found.bucket("en.wikipedia.org")


def test_hosts_that_nobody_named_have_buckets_of_their_own_under_one_name() -> None:
    found = standard(1)
    assert found.of("a.example").name == found.of("b.example").name == "other"
    assert found.bucket("a.example") != found.bucket("b.example")


def test_redirects_stay_on_a_host_or_among_those_of_its_policy() -> None:
    found = Policies([Policy("ours", ("*.ours.example", "ours.test"))])
    assert found.same_site("a.ours.example", "ours.test")
    assert found.same_site("x.example", "x.example")
    assert not found.same_site("x.example", "y.example")
    assert not found.same_site("ours.test", "x.example")
