//! The bytes between nodes: golden frames of every kind of message, and what a decoder does with broken ones.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use samara_core::base::{
    Address, Applied, Epoch, ExpireWhen, Expiry, Failure, Hlc, KeyOp, Level, NodeId, OpId, Outcome, Record,
    RecordKey, Rejection, RequestId, Response, ShardId, Slot, Stamp, StartNumber, WallTime, Wanted, When,
};
use samara_core::wire::codec::{BODY_BYTES_MAX, FRAME_MESSAGES_MAX, HEADER_BYTES};
use samara_core::wire::{
    Answer, CodecError, Envelope, ForwardResult, Frames, MarkRange, MarkStep, Marked, Message,
    PROTOCOL_VERSION, Refusal,
};
use std::fmt::Write;

fn stamp(ms: u64, node: u16) -> Stamp {
    Stamp { hlc: Hlc::from_ms(ms), node: NodeId(node) }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn record() -> Record {
    let op_id = OpId { stamp: stamp(999, 2), number: 7 };
    Record {
        ballot: stamp(1_000, 3),
        written: stamp(900, 2),
        value: Some(text("value")),
        expires_at: 5_000,
        recent: vec![Applied { op_id, outcome: Outcome::Integer(-1), stamp: stamp(900, 2) }],
        evicted_upto: stamp(800, 1),
    }
}

fn envelope(body: Message) -> Envelope {
    let from = Address { node: NodeId(3), shard: ShardId(1) };
    Envelope { from, start: StartNumber::new(4, 0xd4a3), epoch: Epoch(1), hlc: Hlc::from_ms(1_001), body }
}

const LIFE: StartNumber = StartNumber::new(3, 0xbeef);

fn frame(body: Message) -> Vec<u8> {
    frames([body])
}

/// The bytes of messages of one step.
fn frames(bodies: impl IntoIterator<Item = Message>) -> Vec<u8> {
    let mut frames = Frames::default();
    bodies.into_iter().for_each(|body| frames.push(&envelope(body)));
    frames.finish().clone()
}

/// The messages of the frame at the beginning of `data`, and its length.
fn decode(data: &[u8]) -> Result<Option<(Vec<Envelope>, usize)>, CodecError> {
    let mut envelopes = Vec::new();
    let len = samara_core::wire::decode(data, &mut envelopes)?;
    assert!(len.is_some() || envelopes.is_empty(), "nothing of half a frame");
    Ok(len.map(|len| (envelopes, len)))
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let bound = (0_u8..=255).prop_map(|byte| Bytes::copy_from_slice(&[byte]));
    (bound.clone(), proptest::option::of(bound), any::<bool>()).prop_map(|(low, high, values)| Wanted {
        low,
        high,
        values,
        ..Wanted::default()
    })
}

fn forward(op: KeyOp) -> Message {
    let op_id = OpId { stamp: stamp(999, 2), number: 7 };
    Message::Forward {
        request: RequestId(9),
        key: text("key"),
        op_id,
        idempotent: true,
        op,
        patience_ms: 1_500,
    }
}

fn mark(step: MarkStep) -> Message {
    Message::Mark { request: RequestId(9), slot: Slot(300), step }
}

fn mark_range() -> MarkRange {
    let (upto, ignore) = (stamp(800, 65_535), stamp(700, 65_535));
    MarkRange { upto, ignore, after: Some(text("a")), last: None, limit: 512 }
}

fn answer(answer: Answer) -> Message {
    Message::Answer { request: RequestId(9), answer }
}

/// One message of each kind, answers included, under the name of its snapshot.
fn samples() -> Vec<(&'static str, Message)> {
    let (request, key) = (RequestId(9), text("key"));
    let page = vec![(Slot(12_182), text("foo"), record()), (Slot(12_183), text("x"), Record::default())];
    vec![
        ("prepare", Message::Prepare { request, key: key.clone(), ballot: stamp(1_000, 3) }),
        ("accept", Message::Accept { request, key: key.clone(), record: record(), next: stamp(1_001, 3) }),
        ("query", Message::Query { request, key: key.clone(), digest: true }),
        ("weak", Message::Weak { request, key: key.clone(), record: record() }),
        ("hint", Message::Hint { request, target: NodeId(5), key: key.clone(), record: record() }),
        ("repair", Message::Repair { request, key, record: record(), chosen: true }),
        ("forward", forward(KeyOp::Add(5))),
        (
            "scan",
            Message::Scan {
                request,
                slot: Slot(300),
                after: Some(text("a")),
                limit: 100,
                wanted: Wanted { low: text("b"), high: Some(text("c")), values: true, ..Wanted::default() },
            },
        ),
        ("ping", Message::Ping { ceiling: Hlc::from_ms(1_100), full: false }),
        ("pong", Message::Pong { ceiling: Hlc::from_ms(1_100), full: true }),
        ("answer_promise", answer(Answer::Promise { ballot: stamp(1_000, 3), accepted: Some(record()) })),
        ("answer_accepted", answer(Answer::Accepted { next_granted: true })),
        ("answer_found", answer(Answer::Found { ballot: stamp(1_000, 3), record: None })),
        ("answer_refused", answer(Answer::Refused(Refusal::Ballot(stamp(1_000, 3))))),
        ("answer_forwarded", answer(Answer::Forwarded(ForwardResult::NotRun))),
        (
            "answer_scanned",
            answer(Answer::Scanned { records: page, next: Some((Slot(12_183), Some(text("x")))) }),
        ),
        ("mark_close", mark(MarkStep::Close(stamp(800, 65_535)))),
        ("mark_digest", mark(MarkStep::Digest(mark_range()))),
        ("mark_list", mark(MarkStep::List(mark_range()))),
        ("mark_raise", mark(MarkStep::Raise { upto: stamp(800, 65_535), token: 9 })),
        (
            "answer_closed",
            answer(Answer::Marked(Marked::Closed { raised: stamp(700, 65_535), hints: 2, token: 9 })),
        ),
        ("resync", resync()),
        ("answer_resynced", answer(resynced())),
        ("remembers", Message::Remembers { start: LIFE, ceiling: Hlc::from_ms(1_000) }),
        ("descends", Message::Descends { start: LIFE, ceiling: Hlc::from_ms(1_100) }),
    ]
}

fn resynced() -> Answer {
    let records = vec![(RecordKey { slot: Slot(12_182), key: text("foo") }, record())];
    let (floor, watermarks) = (stamp(1_000, u16::MAX), vec![(Slot(12_182), stamp(900, 2))]);
    Answer::Resynced { records, done: false, floor, watermarks }
}
fn resync() -> Message {
    let (from, until) = (RecordKey { slot: Slot(12_182), key: text("a") }, RecordKey::start_of(Slot(12_438)));
    Message::Resync { request: RequestId(9), from, exclusive: true, until, floor: Hlc::from_ms(1_000) }
}

/// Every operation that a forward can carry.
fn operations() -> Vec<KeyOp> {
    let (value, data) = (text("v"), text("tail"));
    let set = |expiry, when| KeyOp::Set { value: value.clone(), expiry, when, want_old: true };
    let expire = |when| KeyOp::Expire { expiry: Expiry::At(9), when, want_value: false };
    vec![
        KeyOp::Read,
        set(Expiry::Clear, When::Always),
        set(Expiry::Keep, When::Absent),
        set(Expiry::At(9), When::Present),
        set(Expiry::After(9), When::Equals(text("old"))),
        set(Expiry::Clear, When::Version(stamp(1_000, 3))),
        KeyOp::Delete { when: When::Always, want_old: true },
        KeyOp::Add(-5),
        KeyOp::AddFloat(text("0.5")),
        KeyOp::Append(data.clone()),
        KeyOp::SetRange { offset: 3, data },
        expire(ExpireWhen::Always),
        expire(ExpireWhen::NoExpiry),
        expire(ExpireWhen::HasExpiry),
        expire(ExpireWhen::Later),
        expire(ExpireWhen::Earlier),
    ]
}

/// Every refusal, every result of a forward, every outcome.
fn answers() -> Vec<Answer> {
    let refusals = [
        Refusal::Ballot(stamp(1_000, 3)),
        Refusal::Epoch(Epoch(2)),
        Refusal::ClockSkew,
        Refusal::TooOld,
        Refusal::Overloaded,
        Refusal::DiskFull,
        Refusal::NotServing,
        Refusal::BelowWatermark(stamp(800, 65_535)),
        Refusal::Suspect,
    ];
    let failures = [
        Failure::Unavailable,
        Failure::Timeout,
        Failure::Overloaded,
        Failure::ClockSkew,
        Failure::DiskFull,
        Failure::TooLarge,
        Failure::BelowFloor(Level::Causal),
    ];
    let rejections = [
        Rejection::NotInteger,
        Rejection::Overflow,
        Rejection::NotFloat,
        Rejection::NotFinite,
        Rejection::TooLarge,
    ];
    let version = stamp(900, 2);
    let mut outcomes =
        vec![Outcome::Changed { applied: true, old: Some(text("old")) }, Outcome::Integer(300)];
    outcomes.extend(rejections.map(Outcome::Rejected));
    outcomes.push(Outcome::NotKept);
    let mut responses = vec![
        Response::Value { value: text("v"), version, expires_at: 5_000, now_ms: 1_000 },
        Response::Absent { version },
    ];
    responses.extend(outcomes.into_iter().map(|outcome| Response::Mutated { outcome, version }));
    let done = |result| Answer::Forwarded(ForwardResult::Done(result));
    let mut answers: Vec<Answer> = refusals.map(Answer::Refused).into();
    answers.extend(failures.map(|failure| done(Err(failure))));
    answers.extend(responses.into_iter().map(|response| done(Ok(response))));
    let marked = [
        Marked::Digested { digest: u128::MAX - 1, last: Some(text("x")) },
        Marked::Listed { entries: vec![(text("a"), stamp(5, 1))], last: None },
        Marked::Raised,
        Marked::Changed,
    ];
    answers.extend(marked.map(Answer::Marked));
    answers
}

/// A frame as a person reads it: the header's fields, then the body in rows of sixteen bytes.
fn readable(frame: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let mut page = String::new();
    let (length, version, crc) = (hex(&frame[..4]), hex(&frame[4..6]), hex(&frame[6..HEADER_BYTES]));
    writeln!(page, "length {length} | version {version} | crc32c {crc}").expect("into memory");
    for row in frame[HEADER_BYTES..].chunks(16) {
        let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
        let letters: String = row.iter().map(shown).collect();
        writeln!(page, "{:<47}  {letters}", hex(row)).expect("into memory");
    }
    page
}

/// The body behind the envelope's own fields.
fn body_of(message: Message) -> String {
    let at = frame(Message::Ping { ceiling: Hlc(0), full: false }).len() - 3;
    frame(message)[at..].iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[test]
fn frames_of_every_kind_keep_their_bytes() {
    for (name, message) in samples() {
        let page = format!("{:?}\n\n{}", message, readable(&frame(message.clone())));
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, page);
        });
    }
}

#[test]
fn operations_and_answers_keep_their_bytes() {
    let mut page = String::new();
    for op in operations() {
        writeln!(page, "{op:?}\n  {}", body_of(forward(op.clone()))).expect("into memory");
    }
    for one in answers() {
        writeln!(page, "{one:?}\n  {}", body_of(answer(one.clone()))).expect("into memory");
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("operations_and_answers", page);
    });
}

/// Kinds are numbered from zero without gaps, and zeros are a value of every field: the first number that does not decode
/// is how many kinds there are.
fn kinds<T: for<'de> serde::Deserialize<'de>>() -> u8 {
    let decodes = |kind: &u8| {
        let mut bytes = [0; 64];
        bytes[0] = *kind;
        postcard::take_from_bytes::<T>(&bytes).is_ok()
    };
    (0..=u8::MAX).take_while(decodes).count() as u8
}

#[test]
fn no_kind_is_without_a_golden_frame() {
    let first = |value: Vec<u8>| value[0];
    let bytes = |message: &Message| postcard::to_allocvec(message).expect("into memory");
    let mut messages: Vec<u8> = samples().iter().map(|(_, message)| first(bytes(message))).collect();
    messages.dedup();
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages, (0..kinds::<Message>()).collect::<Vec<_>>());
    let answers: Vec<u8> = samples()
        .into_iter()
        .filter_map(|(_, message)| match message {
            Message::Answer { answer, .. } => {
                Some(first(postcard::to_allocvec(&answer).expect("into memory")))
            }
            _ => None,
        })
        .collect();
    assert_eq!(answers, (0..kinds::<Answer>()).collect::<Vec<_>>());
    let mut operations: Vec<u8> =
        operations().iter().map(|op| first(postcard::to_allocvec(op).expect("into memory"))).collect();
    operations.dedup();
    assert_eq!(operations, (0..kinds::<KeyOp>()).collect::<Vec<_>>());
}

#[test]
fn a_frame_that_is_not_whole_is_waited_for() {
    for (name, message) in samples() {
        let frame = frame(message);
        for len in 0..frame.len() {
            assert_eq!(decode(&frame[..len]), Ok(None), "{name}, {len} bytes");
        }
    }
}

#[test]
fn the_messages_of_a_step_share_a_frame_and_its_length_is_bounded() {
    let ping = || Message::Ping { ceiling: Hlc(7), full: false };
    let (one, three) = (frame(ping()).len(), frames([ping(), ping(), ping()]).len());
    assert_eq!((three - one) % 2, 0);
    assert!((three - one) / 2 < one - HEADER_BYTES, "header and head only once");
    let many = frames((0..=FRAME_MESSAGES_MAX).map(|_| ping()));
    let (first, len) = decode(&many).expect("our own").expect("whole");
    let (second, rest) = decode(&many[len..]).expect("our own").expect("whole");
    assert_eq!((first.len(), second.len(), len + rest), (FRAME_MESSAGES_MAX, 1, many.len()));
    let mut too_many = many[..len].to_vec();
    too_many.extend_from_slice(&many[many.len() - (three - one) / 2..]);
    assert_eq!(decode(&sealed(too_many)), Err(CodecError::Malformed));
    let large = || {
        let record = Record { value: Some(Bytes::from(vec![0; 300_000])), ..record() };
        Message::Weak { request: RequestId(1), key: text("k"), record }
    };
    let large = frames([large(), large()]);
    assert_eq!(decode(&large).expect("our own").expect("whole").0.len(), 1, "no frame grows without end");
}

#[test]
fn a_frame_is_refused_before_memory_is_taken_for_it() {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(BODY_BYTES_MAX as u32 + 1).to_le_bytes());
    header[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    assert_eq!(decode(&header), Err(CodecError::TooLarge));
    header[..4].copy_from_slice(&8_u32.to_le_bytes());
    header[4..6].copy_from_slice(&(PROTOCOL_VERSION + 1).to_le_bytes());
    assert_eq!(decode(&header), Err(CodecError::Version(PROTOCOL_VERSION + 1)));
    // A page that claims 2^60 records and holds none.
    let mut frame = frame(answer(Answer::Scanned { records: Vec::new(), next: None }));
    frame.truncate(frame.len() - 2);
    frame.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
    assert_eq!(decode(&sealed(frame)), Err(CodecError::Malformed));
}

/// The frame with the length and checksum that its body asks for: what a sender with a bug would send.
fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    let len = (frame.len() - HEADER_BYTES) as u32;
    let crc = samara_core::base::checksum::crc32c(&[&frame[4..6], &frame[HEADER_BYTES..]]);
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[6..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    frame
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), any::<u16>()).prop_map(|(hlc, node)| Stamp { hlc: Hlc(hlc), node: NodeId(node) })
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_op_id() -> impl Strategy<Value = OpId> {
    (any_stamp(), any::<u128>()).prop_map(|(stamp, number)| OpId { stamp, number })
}

fn any_record() -> impl Strategy<Value = Record> {
    let outcome = prop_oneof![
        (any::<bool>(), proptest::option::of(any_bytes()))
            .prop_map(|(applied, old)| Outcome::Changed { applied, old }),
        any::<i64>().prop_map(Outcome::Integer),
        Just(Outcome::Rejected(Rejection::TooLarge)),
        Just(Outcome::NotKept),
    ];
    let applied = (any_op_id(), outcome, any_stamp()).prop_map(|(op_id, outcome, stamp)| Applied {
        op_id,
        outcome,
        stamp,
    });
    let stamps = (any_stamp(), any_stamp(), any_stamp());
    (stamps, proptest::option::of(any_bytes()), any::<u64>(), vec(applied, 0..4)).prop_map(
        |((ballot, written, evicted_upto), value, expires_at, recent)| Record {
            ballot,
            written,
            value,
            expires_at,
            recent,
            evicted_upto,
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    let request = || any::<u64>().prop_map(RequestId);
    let ceiling = || any::<u64>().prop_map(Hlc);
    let slot = || any::<u16>().prop_map(Slot);
    let after = || proptest::option::of(any_bytes());
    let found = vec((slot(), any_bytes(), any_record()), 0..4);
    prop_oneof![
        (request(), any_bytes(), any_stamp()).prop_map(|(request, key, ballot)| Message::Prepare {
            request,
            key,
            ballot
        }),
        (request(), any_bytes(), any_record(), any_stamp())
            .prop_map(|(request, key, record, next)| Message::Accept { request, key, record, next }),
        (request(), any_bytes(), any::<bool>()).prop_map(|(request, key, digest)| Message::Query {
            request,
            key,
            digest
        }),
        (request(), any_bytes(), any_record()).prop_map(|(request, key, record)| Message::Weak {
            request,
            key,
            record
        }),
        (request(), any::<u16>(), any_bytes(), any_record()).prop_map(|(request, target, key, record)| {
            Message::Hint { request, target: NodeId(target), key, record }
        }),
        (request(), any_bytes(), any_record(), any::<bool>())
            .prop_map(|(request, key, record, chosen)| Message::Repair { request, key, record, chosen }),
        (
            request(),
            any_bytes(),
            any_op_id(),
            any::<bool>(),
            proptest::sample::select(operations()),
            any::<u32>()
        )
            .prop_map(|(request, key, op_id, idempotent, op, patience_ms)| Message::Forward {
                request,
                key,
                op_id,
                idempotent,
                op,
                patience_ms
            }),
        (request(), slot(), after(), any::<u32>(), wanted()).prop_map(
            |(request, slot, after, limit, wanted)| Message::Scan { request, slot, after, limit, wanted }
        ),
        (ceiling(), any::<bool>()).prop_map(|(ceiling, full)| Message::Ping { ceiling, full }),
        (ceiling(), any::<bool>()).prop_map(|(ceiling, full)| Message::Pong { ceiling, full }),
        (request(), proptest::sample::select(answers()))
            .prop_map(|(request, answer)| Message::Answer { request, answer }),
        (request(), found, proptest::option::of((slot(), after()))).prop_map(|(request, records, next)| {
            Message::Answer { request, answer: Answer::Scanned { records, next } }
        }),
        (request(), any_stamp(), proptest::option::of(any_record())).prop_map(
            |(request, ballot, accepted)| {
                Message::Answer { request, answer: Answer::Promise { ballot, accepted } }
            }
        ),
    ]
}

/// What happens to bytes on their way.
#[derive(Debug, Clone)]
enum Harm {
    Flip { at: usize, mask: u8 },
    Cut { at: usize },
    Insert { at: usize, byte: u8 },
    Fill { at: usize, len: usize, byte: u8 },
}

fn any_harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<usize>(), 1..=u8::MAX).prop_map(|(at, mask)| Harm::Flip { at, mask }),
        any::<usize>().prop_map(|at| Harm::Cut { at }),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Harm::Insert { at, byte }),
        (any::<usize>(), 1..20_usize, proptest::sample::select(vec![0, 0x7f, 0x80, 0xff]))
            .prop_map(|(at, len, byte)| Harm::Fill { at, len, byte }),
    ]
}

fn harmed(bytes: &[u8], harms: &[Harm]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for harm in harms {
        let len = bytes.len();
        match *harm {
            _ if len == 0 => {}
            Harm::Flip { at, mask } => bytes[at % len] ^= mask,
            Harm::Cut { at } => bytes.truncate(at % len),
            Harm::Insert { at, byte } => bytes.insert(at % len, byte),
            Harm::Fill { at, len: wanted, byte } => {
                let at = at % len;
                let end = len.min(at + wanted);
                bytes[at..end].fill(byte);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_encoded_is_decoded(messages in vec((any_message(), 0..300_u64), 1..6)) {
        // Messages of a frame get the highest of their clocks; a frame may be closed at any time.
        let mut buffer = Frames::default();
        let at = |(body, hlc)| Envelope { hlc: Hlc(hlc), ..envelope(body) };
        let sent: Vec<Envelope> = messages.into_iter().map(at).collect();
        for (at, envelope) in sent.iter().enumerate() {
            buffer.push(envelope);
            let _closed = if at % 4 == 3 { buffer.finish().len() } else { 0 };
        }
        let buffer = buffer.finish();
        let (mut at, mut came) = (0, Vec::new());
        while let Some((envelopes, len)) = decode(&buffer[at..]).expect("our own frames") {
            let highest = sent[came.len()..].iter().take(envelopes.len()).map(|one| one.hlc).max();
            prop_assert!(envelopes.iter().all(|one| Some(one.hlc) == highest));
            came.extend(envelopes);
            at += len;
        }
        prop_assert_eq!(at, buffer.len());
        prop_assert!(came.iter().map(|one| &one.body).eq(sent.iter().map(|one| &one.body)));
    }

    #[test]
    fn a_single_harmed_byte_never_passes_for_a_message(message in any_message(), at in any::<usize>(), mask in 1..=u8::MAX) {
        let whole = frame(message);
        let came = decode(&harmed(&whole, &[Harm::Flip { at, mask }]));
        // A higher length makes the decoder wait for bytes that never come; everything else is told at once.
        prop_assert!(matches!(came, Err(_) | Ok(None)), "{:?}", came);
    }

    #[test]
    fn harmed_frames_never_panic(message in any_message(), harms in vec(any_harm(), 1..6)) {
        let whole = frame(message.clone());
        let bytes = harmed(&whole, &harms);
        if bytes != whole {
            // Bytes may be lost behind the frame, where the harm was an insertion.
            if let Ok(Some((envelopes, len))) = decode(&bytes) {
                prop_assert_eq!((&envelopes[0].body, &bytes[..len]), (&message, &whole[..]));
            }
        }
    }

    #[test]
    fn well_sealed_nonsense_is_refused_or_is_a_message(message in any_message(), harms in vec(any_harm(), 1..6)) {
        let whole = frame(message);
        let mut bytes = whole[..HEADER_BYTES].to_vec();
        bytes.extend(harmed(&whole[HEADER_BYTES..], &harms));
        match decode(&sealed(bytes)) {
            Err(error) => prop_assert_eq!(error, CodecError::Malformed),
            Ok(None) => prop_assert!(false, "the frame was whole"),
            Ok(Some((envelopes, _))) => {
                let mut again = Frames::default();
                for envelope in &envelopes { again.push(envelope); }
                let (came, _) = decode(again.finish()).expect("our own frame").expect("a whole frame");
                prop_assert_eq!(came, envelopes);
            }
        }
    }

    #[test]
    fn any_bytes_at_all_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let mut frame = vec![0, 0, 0, 0, PROTOCOL_VERSION.to_le_bytes()[0], PROTOCOL_VERSION.to_le_bytes()[1], 0, 0, 0, 0];
        prop_assert!(!matches!(decode(&bytes), Ok(Some(_))), "no checksum fits by chance in so few tries");
        frame.extend(bytes);
        prop_assert!(!matches!(decode(&sealed(frame)), Ok(None)));
    }
}

/// A sender that waits 300 ms, and clocks that are each off by up to 500 ms.
#[test]
fn what_nobody_waits_for_any_more_is_expired_and_what_takes_effect_never_is() {
    let sent_ms = 10_000;
    for (name, message) in samples() {
        let patience_ms = match &message {
            Message::Prepare { .. } | Message::Query { .. } | Message::Scan { .. } => Some(300),
            Message::Forward { patience_ms, .. } => Some(u64::from(*patience_ms)),
            _ => None,
        };
        let envelope = Envelope { hlc: Hlc::from_ms(sent_ms), ..envelope(message) };
        let expired = |late_ms| envelope.is_expired(WallTime(sent_ms + late_ms));
        match patience_ms {
            Some(patience_ms) => {
                assert!(!expired(patience_ms + 1_000), "{name}");
                assert!(expired(patience_ms + 1_001), "{name}");
            }
            None => assert!(!expired(1 << 40), "{name}"),
        }
    }
}
