"""The workers of one term: they finish what is under way when we stop, and follow the configuration while they work."""

from anyio.abc import TaskGroup

from paidwatch.flow.activate import Activate
from paidwatch.flow.alarm import Alarm
from paidwatch.flow.ask import Ask, Questions
from paidwatch.flow.breaker import after_failure
from paidwatch.flow.call import Call
from paidwatch.flow.calls import Calls
from paidwatch.flow.claim import Claimant
from paidwatch.flow.decide import Decide
from paidwatch.flow.deliver import Deliver
from paidwatch.flow.detect import Detect
from paidwatch.flow.double import Double
from paidwatch.flow.forward import Forwarders, Tools
from paidwatch.flow.means import Means
from paidwatch.flow.sweep import Sweep
from paidwatch.store.pool import Database


class Crew:
    """The alarm clock, the calls of the application, the webhooks that are passed on, and one deliverer per channel."""

    def __init__(self, means: Means, database: Database) -> None:
        """Build everything; nothing runs yet."""
        self._means = means
        self._database = database
        self._deliverers: dict[str, Deliver] = {}
        self._questions = Questions(means.apis)
        self.detect = Detect(
            database=database,
            policy=means.policy,
            providers=means.providers,
            metrics=means.metrics,
            log=means.log,
            questions=self._questions,
        )
        self.alarm = self._alarm()
        self._calls = self._caller()
        self._asker = self._ask()
        self._forwarders = self._passers_on()
        self.alarm.on_claims, self._calls.on_look = self._calls.poke.ring, self.alarm.poke.ring

    def news(self) -> None:
        """There is something to tell people."""
        for deliverer in self._deliverers.values():
            deliverer.wake.ring()

    def look(self) -> None:
        """A command or a page queued something, or the configuration changed: everybody looks."""
        self.alarm.poke.ring()
        self._calls.poke.ring()
        self._asker.poke.ring()
        self._forwarders.ring()
        self._means.receive.look()
        self.news()

    def start(self, group: TaskGroup) -> None:
        """Begin."""
        group.start_soon(self.alarm.run, name="alarm")
        group.start_soon(self._calls.run, name="activation calls")
        group.start_soon(self._asker.run, name="provider questions")
        self.hire(group)

    def hire(self, group: TaskGroup) -> None:
        """One worker per configured channel and handler; those of what is gone finish and leave."""
        means = self._means
        self._forwarders.hire(group)
        wanted = {transport.name: transport for transport in means.transports()}
        for name, former in list(self._deliverers.items()):
            if former.transport is not wanted.get(name):
                former.stop()
                del self._deliverers[name]
        for name, transport in wanted.items():
            if name not in self._deliverers:
                deliverer = Deliver(
                    transport=transport,
                    database=self._database,
                    policy=means.policy,
                    clock=means.clock,
                    status=means.status,
                    metrics=means.metrics,
                    log=means.log,
                )
                self._deliverers[name] = deliverer
                group.start_soon(deliverer.run, name=f"deliver {name}")

    def stop(self) -> None:
        """Finish what is under way, begin nothing more."""
        self.alarm.stop()
        self._calls.stop()
        self._asker.stop()
        self._forwarders.stop()
        for deliverer in self._deliverers.values():
            deliverer.stop()

    def _alarm(self) -> Alarm:
        means, database = self._means, self._database
        return Alarm(
            database=database,
            detect=self.detect,
            decide=Decide(
                database=database,
                policy=means.policy,
                claimant=Claimant(means.policy),
                metrics=means.metrics,
                log=means.log,
                questions=self._questions,
            ),
            sweep=Sweep(database=database, policy=means.policy, log=means.log),
            double=Double(database=database, policy=means.policy, log=means.log),
            activate=Activate(database=database, policy=means.policy, metrics=means.metrics, log=means.log),
            status=means.status,
            on_news=self.news,
        )

    def _caller(self) -> Calls:
        means = self._means
        call = Call(
            database=self._database,
            policy=means.policy,
            application=means.application,
            on_failed=after_failure(means.policy, means.log),
        )
        return Calls(
            database=self._database,
            call=call,
            status=means.status,
            metrics=means.metrics,
            log=means.log,
            on_told=self.news,
        )

    def _ask(self) -> Ask:
        means = self._means
        return Ask(
            database=self._database,
            apis=means.apis,
            questions=self._questions,
            status=means.status,
            metrics=means.metrics,
            log=means.log,
            on_told=self.news,
            on_look=self.alarm.poke.ring,
        )

    def _passers_on(self) -> Forwarders:
        means = self._means
        tools = Tools(
            database=self._database,
            session=means.http,
            policy=means.policy,
            clock=means.clock,
            status=means.status,
            metrics=means.metrics,
            log=means.log,
            on_told=means.receive.look,
            gives_way=means.receive.is_pressed,
        )
        return Forwarders(tools, means.destinations)
