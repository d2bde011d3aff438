//! Many at once: nothing is lost, nothing is asked twice, order is kept, whatever happens to the link meanwhile.

use std::collections::{BTreeMap, HashMap};

use super::{Server, World, attr, body, options, start};
use crate::Brakes;

const SENDERS: usize = 40;
const EACH: usize = 50;

fn question(sender: usize, number: usize) -> String {
    format!(
        "<message from='u{sender}@hub-a.example/d' to='bot@agents.hub-a.example' type='chat' id='q{number}'><body>{number}</body></message>"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_is_answered_in_order_over_a_link_that_dies_three_times() {
    let server = Server::start().await;
    let world = World::echoing();
    let mut options = options(&server);
    options.brakes = Brakes::off();
    let _door = start(options, &world);

    // What each sender got, by stanza id: a reply that was not confirmed comes again under its id.
    let mut answers: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    let mut asked = 0;
    for life in 0..4 {
        let mut peer = server.accept().await;
        let upto = SENDERS * EACH * (life + 1) / 4;
        for index in asked..upto {
            peer.write(&question(index % SENDERS, index / SENDERS)).await;
        }
        asked = upto;
        // The first three lives end in the middle of the answers.
        let enough = if life == 3 { SENDERS * EACH } else { upto - upto / 8 };
        while answers.values().map(BTreeMap::len).sum::<usize>() < enough || (life < 3 && world.asked() < upto) {
            let element = peer.next().await;
            if !body(&element).is_empty() {
                let answers = answers.entry(attr(&element, "to").to_owned()).or_default();
                let known = answers.insert(attr(&element, "id").to_owned(), body(&element));
                assert!(known.is_none_or(|known| known == body(&element)));
            }
        }
        if life == 3 {
            peer.serve_until(world.confirmed(SENDERS * EACH)).await;
        }
    }
    let state = world.state.lock().unwrap();
    assert_eq!(state.questions.len(), SENDERS * EACH);
    assert_eq!(state.confirmed.len(), SENDERS * EACH);
    for sender in 0..SENDERS {
        let name = format!("u{sender}@hub-a.example");
        let inputs: Vec<usize> =
            state.questions.iter().filter(|(who, _)| who.as_str() == name).map(|(_, question)| question.input.parse().unwrap()).collect();
        assert_eq!(inputs, (0..EACH).collect::<Vec<_>>(), "{name}");
        let mut got: Vec<String> = answers[&name].values().cloned().collect();
        got.sort();
        let mut wanted: Vec<String> = (0..EACH).map(|number| format!("echo: {number}")).collect();
        wanted.sort();
        assert_eq!(got, wanted, "{name}");
    }
}
