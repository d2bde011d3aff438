"""The page at `/docs` in a real browser (headless Chromium)."""

import contextlib

from playwright.async_api import async_playwright

import documented

CHROMIUM = "/usr/bin/chromium"


@contextlib.asynccontextmanager
async def page_of(hub):
    """A page of a browser that can reach nothing but the hub; `page.troubles` is what went wrong, `page.asked` what it asked for."""
    async with async_playwright() as playwright:
        # Containers have no user namespaces for the browser's sandbox; the page is the hub's own.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        troubles, asked = [], []

        async def let_through(route):
            asked.append(route.request.url)
            if route.request.url.startswith(hub.http + "/"):
                await route.continue_()
            else:
                troubles.append(f"asked for {route.request.url}")
                await route.abort()

        await context.route("**/*", let_through)
        page.on("console", lambda said: said.type in ("error", "warning") and troubles.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
        page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
        page.on("response", lambda answer: answer.status >= 400 and troubles.append(f"{answer.status}: {answer.url}"))
        yield page, troubles, asked
        await browser.close()


async def test_the_docs_page_shows_the_document_and_asks_nobody_else(mesh):
    async with page_of(mesh.a) as (page, troubles, asked):
        await page.goto(f"{mesh.a.http}/docs")
        wanted = {f"operation-{operation['operationId']}" for _, _, operation in documented.operations()}
        await page.wait_for_selector("details.card")
        shown = set(await page.eval_on_selector_all("details.card[id^=operation-]", "cards => cards.map(card => card.id)"))
        assert shown == wanted, shown ^ wanted

        card = page.locator("#operation-create_agent")
        inside = card.locator(":scope > div")
        assert not await inside.is_visible()
        await card.locator("summary").click()
        await inside.wait_for(state="visible")
        text = await inside.inner_text()
        for part in ("Request", "AgentCreate", "Answers", "409", "curl"):
            assert part in text, f"{part} is missing:\n{text}"
        # A schema that is named leads to itself.
        await inside.locator("a", has_text="AgentCreate").first.click()
        await page.locator("#schema-AgentCreate > div").wait_for(state="visible")

        await page.get_by_label("Find an operation or a schema").fill("rotate_token")
        await page.wait_for_function("document.querySelectorAll('details.card[id^=operation-]').length === 1")
        await page.get_by_label("Find an operation or a schema").fill("")
        await page.get_by_role("button", name="Federation").click()
        await page.wait_for_selector("#operation-deliver_envelopes")
        assert not troubles, troubles
        assert set(asked) == {f"{mesh.a.http}{path}" for path in ("/docs", "/openapi/node.json", "/openapi/federation.json")}, asked
