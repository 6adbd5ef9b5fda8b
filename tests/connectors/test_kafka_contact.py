"""Silent brokers are said once, after a while, and so is their return."""

from connectors.kafka.contact import Contact

SILENT = "no contact with the brokers for 30 s; waiting for them, a signal stops the run"


class Brokers:
    """Brokers that are asked every 5 s."""

    def __init__(self):
        self.now_s, self.told = 1000.0, []
        self.contact = Contact(self.told.append, 30)

    def asked(self, times, answer):
        for _ in range(times):
            self.now_s += 5
            (self.contact.heard if answer else self.contact.unheard)(self.now_s)


def test_of_brokers_that_answer_nothing_is_said():
    brokers = Brokers()
    brokers.asked(20, True)
    assert brokers.told == []


def test_silence_is_said_once_when_it_has_lasted_and_their_return_once():
    brokers = Brokers()
    brokers.asked(6, False)  # first at 1005, then up to 1030
    assert brokers.told == []
    brokers.asked(1, False)
    assert brokers.told == [SILENT]
    brokers.asked(20, False)  # up to 1135
    assert brokers.told == [SILENT]
    brokers.asked(2, True)
    assert brokers.told == [SILENT, "contact with the brokers again, after 135 s; nothing is lost"]
    brokers.asked(7, False)
    assert brokers.told[2:] == [SILENT]


def test_a_silence_that_was_short_is_never_said():
    brokers = Brokers()
    for _ in range(3):
        brokers.asked(6, False)
        brokers.asked(1, True)
    assert brokers.told == []


def test_who_was_busy_for_longer_accuses_no_broker_before_it_has_asked_for_that_long():
    brokers = Brokers()
    brokers.now_s += 600
    brokers.asked(6, False)
    assert brokers.told == []
