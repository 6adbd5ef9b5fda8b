"""Silent brokers are said once, after a while, and so is their return."""

from connectors.kafka.contact import Contact


class Brokers:
    """Brokers and a clock that a test moves, a poll a second that brings nothing."""

    def __init__(self, silence_s=30):
        self.now_s, self.answer, self.asked, self.told = 1000.0, True, [], []
        self.contact = Contact(self.ask, self.told.append, silence_s, lambda: self.now_s)

    def ask(self):
        self.asked.append(self.now_s)
        return self.answer

    def idle(self, seconds):
        for _ in range(seconds):
            self.now_s += 1
            self.contact.nothing_came()


def test_brokers_that_answer_are_asked_every_few_seconds_and_nothing_is_said():
    brokers = Brokers()
    brokers.idle(60)
    assert brokers.asked == [1005 + 5 * k for k in range(12)]
    assert brokers.told == []


def test_silence_is_said_once_when_it_has_lasted_and_their_return_once():
    brokers = Brokers()
    brokers.answer = False
    brokers.idle(34)  # asked first after 5 s
    assert brokers.told == []
    brokers.idle(1)
    assert brokers.told == ["no contact with the brokers for 30 s; waiting for them, a signal stops the run"]
    brokers.idle(100)
    assert len(brokers.told) == 1
    brokers.answer = True
    brokers.idle(30)
    assert brokers.told[1:] == ["contact with the brokers again, after 135 s; nothing is lost"]


def test_a_message_ends_the_silence_and_one_that_was_short_is_never_said():
    brokers = Brokers()
    brokers.answer = False
    for _ in range(3):
        brokers.idle(30)
        brokers.contact.came()
    assert brokers.told == []
    brokers.idle(35)
    brokers.contact.came()
    assert len(brokers.told) == 2


def test_who_was_busy_for_longer_accuses_no_broker_before_it_has_asked_for_that_long():
    brokers = Brokers()
    brokers.answer = False
    brokers.now_s += 600
    brokers.idle(30)
    assert brokers.told == []
