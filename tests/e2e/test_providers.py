"""A provider on the network: its tokens are seen one by one on every door, and its refusals are told without its words."""

from token_model import API_KEY, INTERNAL_TEXT

TOKENS = ["one ", "two ", "three\n", "four \N{SNOWMAN}"]
# (what the provider answers, the code for programs, the sentence for people)
REFUSALS = [
    (401, "provider_unauthorized", "the provider refused the worker's credentials"),
    (500, "provider_unavailable", "the provider is unavailable"),
]


async def agent_of_b(mesh) -> str:
    owner = await mesh.b.register("owner")
    return await owner.create_agent("tokens", llm_config={"provider": "tokens"})


async def speak_and_listen(turn, stream) -> None:
    """Every token is said only after the one before it was seen."""
    text = ""
    for token in TOKENS:
        turn.say(token)
        text += token
        await stream.hear(text)
    turn.end()


async def test_tokens_stream_to_users_of_both_hubs(mesh):
    agent = await agent_of_b(mesh)
    for hub in (mesh.b, mesh.a):
        said = f"count for {hub.domain}"
        person = await hub.register("reader")
        async with person.stream(agent, said) as stream:
            accepted = await stream.event("accepted")
            turn = await mesh.tokens.turn(said)
            await speak_and_listen(turn, stream)
            done = await stream.event("done")
        assert done["response"] == "".join(TOKENS), done
        assert done["run_id"] == accepted["run_id"], (accepted, done)
        assert done["tokens_used"] == 7 + len(TOKENS), done
        run = await person.rest("GET", f"/api/v1/runs/{done['run_id']}")
        assert (run["status"], run["input_tokens"], run["output_tokens"]) == ("completed", 7, len(TOKENS)), run
        assert "token-model" in run["model_used"], run


async def test_an_answer_grows_in_a_client_that_shows_corrections(mesh):
    agent = await agent_of_b(mesh)
    for hub in (mesh.b, mesh.a):
        client = await (await hub.register("reader")).online(corrections=True)
        # The hub asks a device once what it can do; everything it says after that is answered accordingly.
        client.say(agent, f"hello of {hub.domain}")
        turn = await mesh.tokens.turn(f"hello of {hub.domain}")
        turn.say("hi")
        turn.end()
        await client.expect("the whole first answer", lambda s: s.name == "message" and s["body"] == "hi" and s["chat_state"] == "active")
        client.forget()

        said = f"count slowly for {hub.domain}"
        client.say(agent, said)
        turn = await mesh.tokens.turn(said)
        turn.say(TOKENS[0])
        first = await client.answer_from(agent)
        assert first["body"] == TOKENS[0] and not first["replace"]["id"], first
        text = TOKENS[0]
        for token in TOKENS[1:]:
            turn.say(token)
            text += token
            more = await client.answer_from(agent)
            assert (more["body"], more["replace"]["id"]) == (text, first["id"]), more
        turn.end()
        last = await client.answer_from(agent)
        assert (last["body"], last["replace"]["id"]) == (text, first["id"]), last
        assert last["chat_state"] == "active" and last["id"] != first["id"], last


async def test_a_refusal_of_the_provider_is_told_without_its_words(mesh):
    agent = await agent_of_b(mesh)
    for hub in (mesh.b, mesh.a):
        person = await hub.register("reader")
        client = await person.online()
        for status, code, sentence in REFUSALS:
            answer = await person.refusal("POST", f"/api/v1/agents/{agent}/chat", {"message": f"refuse {status}"})
            assert (answer.status, answer.body["code"]) == (502, code), answer
            async with person.stream(agent, f"refuse {status}") as stream:
                error = await stream.event("error")
                assert error["code"] == code, error
            seen = f"{answer.body} {stream.raw}"
            client.say(agent, f"refuse {status}")
            told = await client.answer_from(agent, within=60)
            assert told["body"] == f"Error processing your message: {sentence}", told
            seen += str(told)
            assert not any(text in seen for text in (INTERNAL_TEXT, API_KEY, "secret_condition")), seen
