"""The app: events come in and are shown, and what the user wants goes to the front door."""

import asyncio
import contextlib
import signal
from typing import ClassVar, Final

from textual import on
from textual.app import App
from textual.binding import Binding
from textual.reactive import reactive

from wilson.domain.errors import ProviderError, UsageError, WilsonError
from wilson.domain.event import Erred, Event, NoticeGiven, PromptSaid, ReplyEnded, ReplyGrew, ToolUsed, Warned
from wilson.domain.front_door import FrontDoor, Served
from wilson.domain.status import StatusLine
from wilson.domain.tables import endpoint_lines
from wilson.domain.value import replace
from wilson.tui.screens.first_run import Choice, FirstRunScreen, PickScreen, Way
from wilson.tui.screens.talk import TalkScreen
from wilson.tui.slash import SLASHES, read_slash
from wilson.tui.widgets.prompt_input import PromptInput
from wilson.tui.widgets.transcript import Reply

_TWICE_S: Final = 1.0
_SIGNALS: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class WilsonApp(App[None]):
    """The window."""

    CSS_PATH = "wilson.tcss"
    TITLE = "Wilson"
    BINDINGS: ClassVar = [
        Binding("escape", "stop_reply", "stop the reply", show=False),
        Binding("ctrl+c", "interrupt", "stop, or quit", show=False, priority=True),
        Binding("ctrl+d", "leave", "quit", show=False, priority=True),
        Binding("pageup", "scroll(-1)", "scroll up", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "scroll down", show=False, priority=True),
    ]

    status: reactive[StatusLine] = reactive(StatusLine())

    def __init__(
        self, door: FrontDoor, *, banner: tuple[str, ...], models_folder: str, conversation: str | None, attached: bool
    ) -> None:
        super().__init__()
        self._door = door
        self._banner = banner
        self._models_folder = models_folder
        self._conversation = conversation
        self._attached = attached
        self._talk = TalkScreen()
        self._reply: Reply | None = None
        self._unanswered = 0
        self._interrupted_at = -_TWICE_S
        self._warned_of_quitting = False

    async def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number, code in _SIGNALS.items():
            # Textual restores the terminal only when it ends by itself.
            loop.add_signal_handler(number, self.exit, None, code)
        await self.push_screen(self._talk)
        self.run_worker(self._listen(), name="events")
        await self._begin()

    async def _begin(self) -> None:
        transcript = self._talk.transcript
        for problem in self._banner:
            await transcript.add_problem(problem)
        if self._banner:
            await transcript.add_problem("These settings were left out. Mend the file; /profile NAME reads it again.")
        if self._attached:
            await transcript.add_notice("attached: another Wilson owns the store and runs the tasks")
        for notice in await self._door.left_over():
            await transcript.add_notice(notice)
        if self._conversation is not None:
            for turn in await self._door.said_before(self._conversation):
                await (transcript.add_prompt(turn.text) if turn.by_user else transcript.add_reply(turn.text))
        self.run_worker(self._wake(), name="chat model")

    async def _wake(self) -> None:
        """Load the chat model; when there is none, offer the ways to one."""
        try:
            await self._door.wake()
        except ProviderError as error:
            await self._offer_ways(str(error))
        except WilsonError as error:
            await self._talk.transcript.add_problem(str(error))

    async def _offer_ways(self, why: str) -> None:
        while True:
            looked_for = "\n".join([why, "", "Looked for:", *endpoint_lines(await self._door.models())])
            choice = await self.push_screen_wait(FirstRunScreen(looked_for, self._models_folder))
            try:
                if await self._gone(choice):
                    return
            except WilsonError as error:
                why = str(error)

    async def _gone(self, choice: Choice) -> bool:
        """Whether the way led to a model, or to the wish to go on without one.

        Raises:
            WilsonError: it led nowhere.
        """
        match choice.way:
            case Way.LATER:
                await self._talk.transcript.add_notice("No chat model for now; /models says what was looked for.")
                return True
            case Way.DEMO:
                await self._door.use_profile("demo")
            case Way.FILE:
                await self._door.use_file(choice.text)
            case Way.ENDPOINT:
                served = await self._door.served_at(choice.text)
                chat = await self._picked("Which model chats? A small one answers at once.", served)
                if chat is None:
                    return False
                code = await self._picked("Which model writes code? A larger one, if it fits.", served)
                await self._door.use_server(served, chat, code or chat)
        await self._door.wake()
        return True

    async def _picked(self, question: str, served: Served) -> str | None:
        return await self.push_screen_wait(PickScreen(question, served.models))

    async def _listen(self) -> None:
        async with self._door.events() as events:
            status = await self._door.status()
            self.status = replace(status, happened=0)
            async for happened in events:
                status = status.after(happened)
                # Without its counter it is the same after most events, and then nobody need be told.
                self.status = replace(status, happened=0)
                await self._show(happened.event)

    async def _show(self, event: Event) -> None:
        transcript = self._talk.transcript
        match event:
            case PromptSaid(conversation=conversation, text=text) if conversation == self._conversation:
                await transcript.add_prompt(text)
            case ReplyGrew(conversation=conversation, text=text) if conversation == self._conversation:
                if self._reply is None:
                    self._reply = await transcript.begin_reply()
                self._reply.grow(text)
            case ReplyEnded(conversation=conversation) if conversation == self._conversation:
                await self._end_reply()
                if event.stopped:
                    await transcript.add_notice("stopped")
                if event.cut:
                    await transcript.add_problem(
                        "The reply ended at its token limit; raise llms.chat.max_tokens or num_ctx."
                    )
            case ToolUsed(conversation=conversation, tool="delegate_task") if conversation == self._conversation:
                await self._end_reply()
                await transcript.add_notice(event.answer)
            case NoticeGiven(text=text):
                await transcript.add_notice(text)
            case Warned(text=text):
                await transcript.add_problem(text)
            case Erred(conversation=conversation, text=text) if conversation in {None, self._conversation}:
                await self._end_reply()
                await transcript.add_problem(text)

    async def _end_reply(self) -> None:
        if self._reply is not None:
            reply, self._reply = self._reply, None
            await reply.end()

    @on(PromptInput.Sent)
    async def sent(self, event: PromptInput.Sent) -> None:
        try:
            slash = read_slash(event.text)
        except UsageError as error:
            await self._talk.transcript.add_problem(str(error))
            return
        if slash is None:
            self.run_worker(self._say(event.text), group="prompts")
        else:
            self.run_worker(self._carry_out(*slash), group="commands")

    async def _say(self, text: str) -> None:
        self._unanswered += 1
        self._show_hint()
        try:
            if self._conversation is None:
                self._conversation = await self._door.begin_conversation()
            said = await self._door.say(text, self._conversation)
            if said.stopped and not said.text:
                self._talk.prompt.put_back(text)
        except WilsonError:
            # The event that tells of it is shown where it belongs, in its order.
            self._talk.prompt.put_back(text)
        finally:
            self._unanswered -= 1
            self._show_hint()

    def _show_hint(self) -> None:
        waiting = self._unanswered - 1
        if waiting > 0:
            self._talk.hint(f"{waiting} prompt{'s' if waiting > 1 else ''} in the queue · Esc stops the reply")
        else:
            self._talk.hint()

    async def _carry_out(self, name: str, rest: str) -> None:
        transcript = self._talk.transcript
        if name == "quit":
            await self.action_leave(asked=True)
        elif name == "clear":
            await self._end_reply()
            self._conversation = None
            await transcript.clear()
        elif action := SLASHES[name].action:
            try:
                await transcript.add_notice(await action(self._door, rest))
            except WilsonError as error:
                await transcript.add_problem(str(error))

    async def action_stop_reply(self) -> None:
        if self._conversation is not None:
            with contextlib.suppress(WilsonError):
                await self._door.stop(self._conversation)

    async def action_interrupt(self) -> None:
        """Stop the reply, or put the draft aside; on an empty prompt the second time quits."""
        now = asyncio.get_running_loop().time()
        again = now - self._interrupted_at < _TWICE_S
        self._interrupted_at = now
        if self._unanswered:
            await self.action_stop_reply()
        elif self._talk.prompt.text:
            self._talk.prompt.stash()
            self._talk.hint("The draft is put aside; Up brings it back. Ctrl+C again quits.")
        elif again:
            await self.action_leave(asked=True)
        else:
            self._talk.hint("Ctrl+C again quits")

    async def action_leave(self, asked: bool = False) -> None:
        """Quit, on an empty prompt; while tasks run only when it is asked twice."""
        if not asked and self._talk.prompt.text:
            return
        running = len(self.status.workers)
        if running and not self._attached and not self._warned_of_quitting:
            self._warned_of_quitting = True
            tasks = "A task is" if running == 1 else f"{running} tasks are"
            await self._talk.transcript.add_notice(f"{tasks} at work and would be interrupted; quit once more to leave")
            return
        self.exit(return_code=0)

    def action_scroll(self, pages: int) -> None:
        transcript = self._talk.transcript
        if pages < 0:
            transcript.scroll_page_up(animate=False)
        else:
            transcript.scroll_page_down(animate=False)


async def show_window(
    door: FrontDoor, *, banner: tuple[str, ...], models_folder: str, conversation: str | None, attached: bool
) -> int:
    """The window, until the user leaves it. The exit code."""
    app = WilsonApp(door, banner=banner, models_folder=models_folder, conversation=conversation, attached=attached)
    await app.run_async()
    return app.return_code or 0
