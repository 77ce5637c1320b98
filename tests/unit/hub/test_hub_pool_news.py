"""What workers know of each other's jobs in hand."""

import msgspec

from halfdrop.contracts.pools import STATE_KEPT_S
from halfdrop.hub.fair_order import LaneName
from halfdrop.hub.pool_news import InHand, News, PoolNews

ANN, BOB = LaneName("standard", "ann"), LaneName("bulk", "bob")


class Message:
    """What a subscription brings, as far as it is read."""

    def __init__(self, news: News) -> None:
        self.data = msgspec.json.encode(news)


def heard_at(news: PoolNews) -> float:
    return max(other.at for other in news._others.values())


def told(sender: str, **in_hand: int) -> Message:
    lanes = tuple(InHand(job_class="standard", tenant=tenant, jobs=jobs) for tenant, jobs in in_hand.items())
    return Message(News(sender=sender, lanes=(), in_hand=lanes))


def test_the_newest_word_of_each_counts_until_it_is_not_heard_any_more() -> None:
    news = PoolNews()
    news.begin(ANN)
    news.begin(BOB)
    news.read(told("other", ann=5))  # type: ignore[arg-type]
    news.read(told("other", ann=2))  # type: ignore[arg-type]
    news.read(told("third", ann=1))  # type: ignore[arg-type]
    now = heard_at(news)
    assert news.running(now) == {ANN: 4, BOB: 1}
    news.end(BOB)
    assert news.running(now) == {ANN: 4}
    assert news.running(now + STATE_KEPT_S + 1) == {ANN: 1}


def test_with_a_worker_that_does_not_say_nobody_knows() -> None:
    news = PoolNews()
    news.read(Message(News(sender="older", lanes=())))  # type: ignore[arg-type]
    now = heard_at(news)
    assert news.running(now) is None
    assert news.running(now + STATE_KEPT_S + 1) == {}
