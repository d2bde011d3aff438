"""The unmodified client library of OpenAI against a hub."""

import asyncio
import contextlib
import json
import ssl

from openai import AsyncOpenAI, BadRequestError, DefaultAsyncHttpxClient, NotFoundError


@contextlib.asynccontextmanager
async def openai(account):
    """A client that acts for an account."""
    trusted = ssl.create_default_context(cafile=account.hub.ca)
    async with DefaultAsyncHttpxClient(verify=trusted) as http:
        yield AsyncOpenAI(base_url=f"{account.hub.http}/openai/v1", api_key=account.token, http_client=http, max_retries=0)


def said(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "Tells the time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}


async def test_models_and_agents_are_listed(mesh):
    person = await mesh.a.register("alice")
    agent = await person.create_agent("near")
    async with openai(person) as client:
        ids = [model.id async for model in await client.models.list()]
    assert "echo" in ids, ids
    assert f"agent:{agent}" in ids, ids


async def test_a_chat_is_answered_plain_and_streamed(mesh):
    person = await mesh.a.register("alice")
    async with openai(person) as client:
        whole = await client.chat.completions.create(model="echo", messages=said("good morning"))
        assert whole.choices[0].message.content == "echo: good morning", whole
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens == 5, whole.usage

        stream = await client.chat.completions.create(
            model="tier:fast", messages=said("good morning"), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == "echo: good morning", text
        assert len(chunks) > 4, "it comes in pieces"
        assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 5

        short = await client.chat.completions.create(model="echo", messages=said("one two three"), max_tokens=2)
        assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("echo: one", "length")


async def test_a_tool_is_called_and_its_result_answered(mesh):
    person = await mesh.a.register("alice")
    async with openai(person) as client:
        messages = said('call clock {"zone": "UTC"}')
        asked = await client.chat.completions.create(model="echo", messages=messages, tools=[CLOCK])
        assert asked.choices[0].finish_reason == "tool_calls", asked
        call = asked.choices[0].message.tool_calls[0]
        assert (call.function.name, json.loads(call.function.arguments)) == ("clock", {"zone": "UTC"})
        messages += [asked.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "noon"}]
        answered = await client.chat.completions.create(model="echo", messages=messages, tools=[CLOCK])
        assert answered.choices[0].message.content == "echo: noon", answered

        stream = await client.chat.completions.create(model="echo", messages=messages[:1], tools=[CLOCK], stream=True)
        calls = [call async for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or []]
        assert "".join(call.function.arguments for call in calls) == '{"zone":"UTC"}', calls


async def test_texts_are_embedded(mesh):
    person = await mesh.a.register("alice")
    async with openai(person) as client:
        # The client asks for base64 by itself and unpacks it.
        made = await client.embeddings.create(model="echo", input=["the cat sat", "the cat sat", "another text"])
        first, second, third = (one.embedding for one in made.data)
        assert len(first) == 384 and first == second != third
        assert abs(sum(value * value for value in first) - 1) < 1e-5
        short = await client.embeddings.create(model="echo", input="the cat sat", dimensions=8, encoding_format="float")
        assert len(short.data[0].embedding) == 8


async def test_a_model_is_an_agent_of_this_or_the_other_hub(mesh):
    person = await mesh.a.register("alice")
    owner = await mesh.b.register("owner")
    for agent in [await person.create_agent("near"), await owner.create_agent("far")]:
        async with openai(person) as client:
            raw = await client.chat.completions.with_raw_response.create(model=agent, messages=said("good morning"))
            assert raw.parse().choices[0].message.content == "echo: good morning", agent
            run = await person.rest("GET", f"/api/v1/runs/{raw.headers['x-aiox-run-id']}")
            assert run["status"] == "completed", run
            stream = await client.chat.completions.create(model=f"agent:{agent}", messages=said("and again"), stream=True)
            text = "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])
            assert text == "echo: and again", (agent, text)


async def pieces_of_chat(client, model: str, text: str):
    stream = await client.chat.completions.create(model=model, messages=said(text), stream=True)
    return (choice.delta.content async for chunk in stream for choice in chunk.choices if choice.delta.content)


async def pieces_of_response(client, model: str, text: str):
    stream = await client.responses.create(model=model, input=text, stream=True)
    return (event.delta async for event in stream if event.type == "response.output_text.delta")


async def test_tokens_of_an_agent_of_the_other_hub_come_one_by_one(mesh):
    owner = await mesh.b.register("owner")
    agent = await owner.create_agent("far", llm_config={"provider": "tokens"})
    person = await mesh.a.register("alice")
    async with openai(person) as client:
        for opened in (pieces_of_chat, pieces_of_response):
            text = f"count for {opened.__name__}"
            pieces = await opened(client, f"agent:{agent}", text)
            turn = await mesh.tokens.turn(text)
            # The first is perhaps said before the asking hub listens: it must not be lost.
            for token in ["one ", "two ", "three\n", "four \N{SNOWMAN}"]:
                turn.say(token)
                async with asyncio.timeout(30):
                    assert await anext(pieces) == token, token
            turn.end()
            assert [piece async for piece in pieces] == [], "nothing comes twice"


async def test_a_response_is_continued(mesh):
    person = await mesh.a.register("alice")
    agent = await person.create_agent("near")
    async with openai(person) as client:
        for model in ["echo", agent]:
            first = await client.responses.create(model=model, input="one")
            assert first.output_text == "echo: one", first
            async with client.responses.stream(model=model, input="two", previous_response_id=first.id) as stream:
                events = [event.type async for event in stream]
                second = await stream.get_final_response()
            assert second.output_text == "echo: two" and events[-1] == "response.completed", events
            assert (await client.responses.retrieve(second.id)).previous_response_id == first.id
        unkept = await client.responses.create(model="echo", input="secret", store=False)
        try:
            await client.responses.create(model="echo", input="more", previous_response_id=unkept.id)
            raise AssertionError("what was not kept was continued")
        except NotFoundError as error:
            assert error.code == "not_found", error


async def test_what_is_not_served_is_refused(mesh):
    person = await mesh.a.register("alice")
    async with openai(person) as client:
        try:
            await client.chat.completions.create(model="echo", messages=said("x"), seed=7)
            raise AssertionError("seed was taken")
        except BadRequestError as error:
            assert error.param == "seed", error
        try:
            await client.chat.completions.create(model="gpt-none", messages=said("x"))
            raise AssertionError("an unknown model was taken")
        except NotFoundError as error:
            assert error.code == "model_not_found", error
