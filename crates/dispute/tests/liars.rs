//! Whatever a party does that is wrong, it loses; whatever the other does, the honest one does not.

mod common;

use common::{Setting, arbiter, challenger, maker, played, setting};
use proptest::prelude::*;
use zoo_content::{Digest, merkle_root};
use zoo_dispute::{
    Account, Answer, Flip, Forgery, Game, Knowledge, Move, Opening, Player, Program, Reason, Refusal, Replay,
    ReplayError, Role, Terms, Verdict, Wanted, check,
};
use zoo_kernels::random;
use zoo_model::Family;
use zoo_model::LossSum;
use zoo_protocol::{NodeKey, Profile, decode, encode};
use zoo_training::step_leaf;

/// A player whose answers somebody changes.
struct Bent<P, F> {
    player: P,
    bend: F,
}

impl<P: Answer, F: FnMut(&Game, Option<Move>) -> Option<Move>> Answer for Bent<P, F> {
    fn answer(&mut self, game: &Game) -> Result<Option<Move>, ReplayError> {
        let said = self.player.answer(game)?;
        Ok((self.bend)(game, said))
    }
}

/// A player who answers without knowing anything.
struct Blind<F>(F);

impl<F: FnMut(&Game) -> Option<Move>> Answer for Blind<F> {
    fn answer(&mut self, game: &Game) -> Result<Option<Move>, ReplayError> {
        Ok((self.0)(game))
    }
}

fn small() -> Setting {
    setting(Family::Qwen3, Profile::F32Exact, 3)
}

/// A flip in the middle of a long chain.
fn flip(setting: &Setting) -> Flip {
    let program = Program::of(setting.replay.task(), 1, None).expect("it has one");
    let tensor =
        program.tensors.iter().position(|tensor| tensor.name == "gradient of qkv" && tensor.shape[0] != 280);
    Flip { step: 1, tensor: tensor.expect("there is one"), element: 300, bit: 22 }
}

fn verdict(terms: &Terms, one: &mut dyn Answer, other: &mut dyn Answer) -> Verdict {
    let hearing = played(terms, one, other);
    let file = hearing.file(&arbiter()).expect("it is over");
    let checked = check(&file).expect("it holds");
    assert_eq!(checked.arbiter, arbiter().id());
    checked.record.verdict
}

/// What a chooser may choose among.
fn choices(game: &Game) -> u64 {
    let count = match game.wanted() {
        Wanted::Step => game.account().map_or(0, |account| account.steps.len()),
        Wanted::Group(_) => game.groups().len(),
        Wanted::Tensor(_) => game.roots().len(),
        Wanted::Node(.., nodes) => nodes.len(),
        Wanted::Word(.., words) => words.len(),
        Wanted::Segment(_, part, _) => part.cuts().len() - 1,
        _ => 1,
    };
    count as u64
}

#[test]
fn a_false_accuser_loses_every_time() {
    let setting = small();
    let mut honest = setting.honest();
    let terms = setting.honest_terms();
    let mut computed = 0;
    for (step, seed) in (0..3).flat_map(|step| (0..60).map(move |seed| (step, seed))) {
        let mut accuser = Blind(|game: &Game| {
            let picked = match game.wanted() {
                Wanted::Step => step,
                _ => random::bits(seed, 0, game.moves().into()) % choices(game),
            };
            Some(Move::Pick(picked))
        });
        let found = verdict(&terms, &mut honest, &mut accuser);
        assert_eq!(found.loser, Role::Challenger, "{found:?}");
        match found.reason {
            Reason::FalseAccusation { .. } => computed += 1,
            Reason::Inconsistent(why) => assert!(step > 0 && why.contains("state before"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(computed > 120, "{computed} were computed");
}

#[test]
fn whoever_is_silent_loses_wherever_it_is() {
    let setting = small();
    let flip = flip(&setting);
    let mut honest = setting.honest();
    let mut liar = setting.liar(flip);
    let terms = setting.terms(liar.outcome().expect("it trains"));
    let whole = played(&terms, &mut liar, &mut honest).game().moves();
    assert!(whole > 10, "{whole} moves");
    for silent_at in 0..whole {
        let silent = |game: &Game, said| if game.moves() == silent_at { None } else { said };
        let found = if silent_at % 2 == 0 {
            verdict(&terms, &mut Bent { player: Borrowed(&mut liar), bend: silent }, &mut honest)
        } else {
            verdict(&terms, &mut liar, &mut Bent { player: Borrowed(&mut honest), bend: silent })
        };
        let loser = if silent_at % 2 == 0 { Role::Maker } else { Role::Challenger };
        assert_eq!((found.loser, found.reason), (loser, Reason::Silence), "move {silent_at}");
    }
}

struct Borrowed<'a>(&'a mut dyn Answer);

impl Answer for Borrowed<'_> {
    fn answer(&mut self, game: &Game) -> Result<Option<Move>, ReplayError> {
        self.0.answer(game)
    }
}

/// Changes one thing in a move of the maker's.
fn change(said: Move, by: u64) -> Move {
    let digest = Digest::of(b"something else");
    let one = |digests: &mut Vec<Digest>| {
        let at = by as usize % digests.len();
        digests[at] = digest;
    };
    let word = |words: &mut Vec<u32>| {
        let at = by as usize % words.len();
        words[at] ^= 1 << (by % 32);
    };
    match said {
        Move::Account(account) => Move::Account(change_account(account, by)),
        Move::Groups(mut digests) => {
            one(&mut digests);
            Move::Groups(digests)
        }
        Move::Roots(mut digests) => {
            one(&mut digests);
            Move::Roots(digests)
        }
        Move::Nodes(mut digests) => {
            one(&mut digests);
            Move::Nodes(digests)
        }
        Move::Words(mut words) => {
            word(&mut words);
            Move::Words(words)
        }
        Move::States(mut words) => {
            word(&mut words);
            Move::States(words)
        }
        Move::Opening(opening) => Move::Opening(change_opening(opening, by)),
        other => other,
    }
}

fn change_account(mut account: Account, by: u64) -> Account {
    let digest = Digest::of(b"something else");
    let Account { outcome, steps } = &mut account;
    let step = by as usize % steps.len();
    match by % 10 {
        0..3 => steps[step].state = digest,
        3 => steps[step].nats ^= 1,
        4 => steps[step].parameters = Some(digest),
        5 => drop(steps.pop()),
        6 => outcome.updates[1].norm ^= 1,
        7 => outcome.updates[1].update = digest,
        8 => outcome.replica_out = digest,
        _ => outcome.mean_loss_bits ^= 1,
    }
    account
}

fn change_opening(mut opening: Opening, by: u64) -> Opening {
    match by % 5 {
        0 => drop(opening.tensors.pop()),
        1 => opening.tensors[0].1.leaves[0].1[0] ^= 1,
        2 => opening.tensors[0].1.beside.push(Digest::of(b"more")),
        3 => opening.stored = Some(vec![1]),
        _ => match opening.groups.first_mut() {
            Some((_, roots)) => roots[0] = Digest::of(b"another"),
            None => opening.tensors.reverse(),
        },
    }
    opening
}

#[test]
fn a_maker_who_changes_anything_it_says_loses() {
    let setting = small();
    let flip = flip(&setting);
    let mut honest = setting.honest();
    let mut liar = setting.liar(flip);
    let terms = setting.terms(liar.outcome().expect("it trains"));
    let whole = played(&terms, &mut liar, &mut honest).game().moves();
    for changed_at in (0..whole).step_by(2) {
        for by in 0..10 {
            let bend = |game: &Game, said: Option<Move>| match game.moves() == changed_at {
                true => said.map(|said| change(said, by)),
                false => said,
            };
            let found = verdict(&terms, &mut Bent { player: Borrowed(&mut liar), bend }, &mut honest);
            assert_eq!(found.loser, Role::Maker, "move {changed_at}, {by}: {found:?}");
        }
    }
}

#[test]
fn a_maker_who_says_something_else_of_a_step_or_of_the_outcome_loses_by_what_it_must_say_then() {
    let setting = small();
    let mut honest = setting.honest();
    let mut maker = setting.honest();
    let right = honest.account().expect("it trains").clone();
    let root = |account: &Account| {
        // The root over the leaves says the losses too.
        let mut leaves = Vec::new();
        for (step, said) in (0..).zip(&account.steps) {
            let task = setting.replay.task();
            let sequences = task.sequences(step);
            let tokens = (sequences.end - sequences.start) * setting.spec.model.context as u64;
            let loss = LossSum { nats: f64::from_bits(said.nats), tokens };
            leaves.push(step_leaf(task.job_step(step), loss, said.parameters));
        }
        merkle_root(&leaves)
    };
    for by in [0, 1, 2, 3, 6, 7, 8] {
        let mut other = change_account(right.clone(), by);
        other.outcome.steps_root = root(&other);
        let terms = setting.terms(other.outcome.digest());
        let said = other.clone();
        let bend = move |_: &Game, answer: Option<Move>| match answer {
            Some(Move::Account(_)) => Some(Move::Account(said.clone())),
            answer => answer,
        };
        let found = verdict(&terms, &mut Bent { player: Borrowed(&mut maker), bend }, &mut honest);
        assert!(matches!(found.reason, Reason::Inconsistent(_)), "{by}: {found:?}");
        let step = other.first_difference(&right).map(|step| step as u32);
        assert_eq!((found.loser, found.place.step), (Role::Maker, step), "{by}: {found:?}");
    }
    let claimed = setting.terms(Digest::of(b"whatever"));
    let found = verdict(&claimed, &mut maker, &mut honest);
    assert!(matches!(found.reason, Reason::Inconsistent(_)), "it cannot say what is right now: {found:?}");
    assert_eq!((found.loser, found.place.step), (Role::Maker, None));
}

#[test]
fn who_agrees_finds_nothing_to_dispute() {
    let setting = small();
    let [mut one, mut other] = [setting.honest(), setting.honest()];
    let found = verdict(&setting.honest_terms(), &mut one, &mut other);
    assert_eq!((found.loser, found.reason), (Role::Challenger, Reason::Withdrawn));
}

#[test]
fn nobody_signs_anything_about_another_window() {
    let (setting, other) = (small(), setting(Family::Llama, Profile::F32Exact, 1));
    let game = Game::open(other.honest_terms()).expect("they make sense");
    assert!(matches!(setting.honest().next(&game), Err(ReplayError::OtherTask)));
}

#[test]
fn what_is_not_the_next_move_of_whose_turn_it_is_changes_nothing() {
    let setting = small();
    let terms = setting.honest_terms();
    let mut game = Game::open(terms.clone()).expect("they make sense");
    let account = setting.honest().account().expect("it trains").clone();
    let first = game.seal(Move::Account(account.clone()), &maker());
    assert_eq!(game.hear(&first, 900), Err(Refusal::Time));
    let stranger = NodeKey::from_seed([9; 32]);
    assert_eq!(game.hear(&game.seal(Move::Pick(0), &stranger), 1000), Err(Refusal::Turn(stranger.id())));
    assert_eq!(
        game.hear(&game.seal(Move::Pick(0), &challenger()), 1000),
        Err(Refusal::Turn(challenger().id()))
    );
    let mut bytes = encode(&first);
    *bytes.last_mut().expect("it is not empty") ^= 1;
    let forged = decode(&bytes).expect("the signature alone is another");
    assert_eq!(game.hear(&forged, 1000), Err(Refusal::Signature));
    game.hear(&first, 1100).expect("it is the next");
    let picked = game.seal(Move::Pick(1), &challenger());
    game.hear(&picked, 1100).expect("it is the next");
    assert_eq!(game.hear(&first, 1200), Err(Refusal::Place), "what was said before is not said again");
    let other = Game::open(zoo_dispute::Terms { move_ms: 501, ..terms.clone() }).expect("it is another");
    assert_eq!(game.hear(&other.seal(Move::Withdraw, &maker()), 1200), Err(Refusal::Place));
    let large = game.seal(Move::Words(vec![u32::MAX; 200_000]), &maker());
    assert!(matches!(game.hear(&large, 1200), Err(Refusal::Size(_))));
    assert_eq!(game.verdict(), None);
    game.wait(1600).expect("it goes on");
    assert_eq!(game.verdict(), None, "a move may come at the deadline");
    game.wait(1601).expect("it is over");
    assert_eq!(game.verdict().map(|verdict| verdict.loser), Some(Role::Maker));
    assert_eq!(game.hear(&first, 1700), Err(Refusal::Over));
}

fn any_account() -> Account {
    static ACCOUNT: std::sync::OnceLock<Account> = std::sync::OnceLock::new();
    ACCOUNT.get_or_init(|| small().honest().account().expect("it trains").clone()).clone()
}

fn any_move() -> impl Strategy<Value = Move> {
    let digests = || prop::collection::vec(any::<[u8; 32]>().prop_map(Digest::from_bytes), 0..5);
    let words = || prop::collection::vec(any::<u32>(), 0..40);
    prop_oneof![
        (0u64..10).prop_map(|by| Move::Account(change_account(any_account(), by))),
        digests().prop_map(Move::Groups),
        digests().prop_map(Move::Roots),
        digests().prop_map(Move::Nodes),
        words().prop_map(Move::Words),
        words().prop_map(Move::States),
        Just(Move::Opening(Opening::default())),
        any::<u64>().prop_map(Move::Pick),
        (0u64..5).prop_map(Move::Pick),
        Just(Move::Withdraw),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_move_anywhere_ends_with_its_sender_or_goes_on(moves in prop::collection::vec(any_move(), 1..4), at in 0u32..15) {
        thread_local! {
            static SETTING: &'static Setting = Box::leak(Box::new(small()));
            static PLAYERS: std::cell::RefCell<Option<(Player<Forgery<'static>>, Player<Replay<'static>>)>> =
                const { std::cell::RefCell::new(None) };
        }
        let setting = SETTING.with(|setting| *setting);
        PLAYERS.with_borrow_mut(|players| {
            let (liar, honest) = players.get_or_insert_with(|| {
                (setting.liar(flip(setting)), setting.honest())
            });
            let terms = setting.terms(liar.outcome().expect("it trains"));
            let mut game = Game::open(terms).expect("they make sense");
            while game.moves() < at && game.verdict().is_none() {
                let (said, key) = match game.turn() {
                    Role::Maker => (liar.next(&game), maker()),
                    Role::Challenger => (honest.next(&game), challenger()),
                };
                game.hear(&game.seal(said.expect("it knows"), &key), 1000).expect("it is the next");
            }
            for said in moves {
                if game.verdict().is_some() {
                    break;
                }
                let key = if game.turn() == Role::Maker { maker() } else { challenger() };
                game.hear(&game.seal(said, &key), 1000).expect("it is the next");
            }
        });
    }
}
