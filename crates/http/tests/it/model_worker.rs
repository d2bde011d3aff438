//! A worker for calls of models, and the catalogue that the tests' hub has.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aiox_app::{
    Dispatch, GatewayOptions, ModelGateway, TenantBook,
    gateway::{
        call::{Answer, Ended, Input, Order, ToolCall},
        lines::{Line, LineOrder, Served},
    },
};
use aiox_core::{
    gateway::{Model, Operation, Price, Tier},
    policy::Policy,
    ports::{Clock, Ids},
};
use aiox_store::Store;
use tokio::sync::mpsc;

/// `echo` (fast, free), `main` and `backup` (premium, 1 and 2 micro-dollars for each token), `broken` (premium, the cheapest, fails),
/// `chain` (fails, `backup` stands in), `absent` (balanced, nobody serves it).
pub fn gateway(store: &Store, book: &TenantBook, clock: &Arc<dyn Clock>, ids: &Arc<dyn Ids>, dispatch: &Dispatch) -> ModelGateway {
    let model = |id: &str, provider: &str, tier, price: u64| Model {
        id: id.into(),
        provider: provider.into(),
        name: format!("{id}-1"),
        tier,
        operations: vec![Operation::Chat],
        context_tokens: Some(10_000),
        max_output_tokens: Some(1_000),
        price: Some(Price { input: price, output: price }),
        local: false,
        latency_ms: 500,
        fallback: Vec::new(),
    };
    let models = vec![
        Model { operations: vec![Operation::Chat, Operation::Embed], ..model("echo", "echo", Tier::Fast, 0) },
        model("main", "paid", Tier::Premium, 1_000_000),
        model("backup", "paid", Tier::Premium, 2_000_000),
        model("broken", "broken", Tier::Premium, 500_000),
        Model { fallback: vec!["backup".into()], ..model("chain", "broken", Tier::Balanced, 9_000_000) },
        model("absent", "nobody", Tier::Balanced, 100_000),
    ];
    let options = GatewayOptions {
        models,
        announced: true,
        node: "hub-a.example".into(),
        timeout: Duration::from_secs(20),
        patience: Duration::from_secs(20),
    };
    let policy = Policy::new(&["nightfall".into()]).unwrap();
    ModelGateway::new(store.clone(), book.clone(), clock.clone(), ids.clone(), dispatch.lines().clone(), policy, options)
}

/// What a worker was asked.
#[derive(Clone, Default)]
pub struct Asked(Arc<Mutex<Vec<Order>>>);
impl Asked {
    pub fn all(&self) -> Vec<Order> {
        self.0.lock().unwrap().clone()
    }
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A worker with what it was asked and the calls that were stopped.
pub struct ModelWorker {
    pub asked: Asked,
    pub stopped: mpsc::UnboundedReceiver<()>,
    _work: tokio::task::JoinHandle<()>,
}
impl Drop for ModelWorker {
    fn drop(&mut self) {
        self._work.abort();
    }
}

/// Connects a worker. A chat is answered `<provider>: <last message>` word by word with 3 and 4 tokens; `hang` is never answered, `die`
/// breaks off after a word, `cut` ends with `length`, `call <tool>` asks for that tool. The provider `broken` fails, having used 2 tokens.
/// A vector is the length of the text and 1.
pub fn connect(dispatch: &Dispatch) -> ModelWorker {
    let served = Served {
        providers: ["echo", "paid", "broken"].map(str::to_owned).to_vec(),
        embedding_providers: vec!["echo".into()],
        named_models: vec!["paid/named".into(), "echo/echo-1".into()],
        places: 8,
        ..Served::default()
    };
    let line = dispatch.open_line(served);
    let asked = Asked::default();
    let (stops, stopped) = mpsc::unbounded_channel();
    let seen = asked.clone();
    let work = tokio::spawn(async move {
        loop {
            match line.next().await {
                LineOrder::Call(order) => {
                    seen.0.lock().unwrap().push((*order).clone());
                    answer(&line, *order);
                }
                LineOrder::Cancel(call) => {
                    let _ = stops.send(());
                    let used = Answer { input_tokens: 5, output_tokens: 1, ..Answer::default() };
                    line.ended(call, Ended { answer: used, error: Some("canceled".into()) });
                }
            }
        }
    });
    ModelWorker { asked, stopped, _work: work }
}

fn answer(line: &Line, order: Order) {
    let used = Answer { input_tokens: 3, output_tokens: 4, finish_reason: "stop".into(), ..Answer::default() };
    let failed = |code: &str, tokens| Ended { answer: Answer { input_tokens: tokens, ..Answer::default() }, error: Some(code.into()) };
    let done = |answer: Answer| Ended { answer, error: None };
    if order.provider == "broken" {
        return line.ended(order.id, failed("provider_unavailable", 2));
    }
    let (messages, tools) = match order.input {
        Input::Embed { texts, .. } => {
            let vectors = texts.iter().map(|text| vec![text.chars().count() as f32, 1.0]).collect();
            return line.ended(order.id, done(Answer { vectors, input_tokens: 3, ..Answer::default() }));
        }
        Input::Chat { messages, tools, .. } => (messages, tools),
    };
    let last = messages.last().map(|message| message.content.clone()).unwrap_or_default();
    let text = format!("{}: {last}", order.provider);
    let ended = match last.as_str() {
        "hang" => return line.delta(order.id, "now ".into()),
        "die" => {
            line.delta(order.id, "half ".into());
            failed("provider_unavailable", 2)
        }
        "long" => failed("context_too_long", 0),
        "cut" => done(Answer { text: text.clone(), finish_reason: "length".into(), ..used }),
        _ if last.strip_prefix("call ").is_some_and(|name| tools.iter().any(|tool| tool.name == name)) => {
            let call = ToolCall { id: "call_1".into(), name: last[5..].to_owned(), arguments: r#"{"zone":"UTC"}"#.into() };
            done(Answer { tool_calls: vec![call], finish_reason: "tool_calls".into(), ..used })
        }
        _ => done(Answer { text: text.clone(), ..used }),
    };
    if order.stream && ended.error.is_none() && ended.answer.tool_calls.is_empty() {
        for word in text.split_inclusive(' ') {
            line.delta(order.id, word.to_owned());
        }
    }
    line.ended(order.id, ended);
}
