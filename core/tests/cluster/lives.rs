//! S5: a node that comes back on another directory than its own is listened to by nobody, and ends.

use super::machine::{Cluster, Disk, set};
use bytes::Bytes;
use samara_core::base::{Address, Failure, Level, NodeId, ShardId, StartNumber};

fn address(node: usize) -> Address {
    Address { node: NodeId(node as u16 + 1), shard: ShardId(0) }
}

fn remembered(cluster: &Cluster, by: usize, of: usize) -> StartNumber {
    cluster.node(by).remembers(address(of)).map_or(StartNumber::default(), |(start, _)| start)
}

fn restart(cluster: &mut Cluster, nodes: &[usize]) {
    for node in nodes {
        cluster.nodes[*node] = None;
    }
    cluster.mail.clear();
    for node in nodes {
        cluster.boot(*node);
    }
    cluster.run_ms(600);
}

/// Three nodes, and a write that the first two have acknowledged and the last has never seen.
fn written() -> Cluster {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(600);
    cluster.nodes[2] = None;
    cluster.ask(0, Level::Strong, "k", set("acknowledged")).expect("two of three");
    cluster
}

/// The second node comes back on `disk`, with the third, which has seen nothing; the first is away. What is acknowledged must
/// not be lost: an error is right, an absent key is wrong.
fn attack(mut cluster: Cluster, disk: Disk, restarts: u32) {
    let (known, right) = (remembered(&cluster, 0, 1), cluster.disks[1].clone());
    cluster.nodes = vec![None, None, None];
    cluster.mail.clear();
    cluster.disks[1] = disk;
    cluster.options[1].seed = [77; 32];
    cluster.may_end = Some(1);
    // Nobody who remembers is there while it is started again and again.
    for _ in 0..restarts {
        cluster.nodes[1] = None;
        cluster.boot(1);
        cluster.run_ms(20);
    }
    assert_eq!(cluster.ended, None, "alone, it cannot know");
    restart(&mut cluster, &[2]);
    let ended = cluster.ended.take().expect("it ends as soon as somebody remembers");
    assert!(ended.contains("emptied or is an old copy") && ended.contains("n3 remembers life"), "{ended}");
    assert_eq!(cluster.read(2, Level::Strong, "k"), Err(Failure::Unavailable));
    assert_eq!(remembered(&cluster, 2, 1), known, "the third has not taken it for the second");

    // With the directory that it had, it is taken back, and so is the write.
    cluster.disks[1] = right;
    cluster.options[1].seed = [2; 32];
    cluster.may_end = None;
    restart(&mut cluster, &[1]);
    assert_eq!(cluster.read(2, Level::Strong, "k"), Ok(Some(Bytes::from("acknowledged"))));
    assert!(remembered(&cluster, 2, 1) > known);
}

#[test]
fn a_directory_that_was_emptied_is_refused_however_often_it_and_its_peers_are_started() {
    for restarts in [1, 2, 5] {
        attack(written(), Disk::default(), restarts);
    }
}

#[test]
fn an_old_copy_of_the_same_life_is_refused() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(600);
    let copy = cluster.disks[1].clone();
    // What is told of ceilings since then becomes durable with the next raise of one's own.
    for _ in 0..5 {
        cluster.ask(2, Level::Strong, "other", set("x")).expect("all are up");
        cluster.run_ms(300);
    }
    cluster.nodes[2] = None;
    cluster.ask(0, Level::Strong, "k", set("acknowledged")).expect("two of three");
    for restarts in [1, 2, 5] {
        let mut again = Cluster::start(3);
        again.nodes = cluster.nodes.clone();
        again.disks = cluster.disks.clone();
        again.now_ms = cluster.now_ms;
        again.mail.clear();
        attack(again, copy.clone(), restarts);
    }
}

#[test]
fn an_old_copy_of_an_earlier_life_is_refused() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(600);
    let copy = cluster.disks[1].clone();
    restart(&mut cluster, &[1]);
    cluster.nodes[2] = None;
    cluster.ask(0, Level::Strong, "k", set("acknowledged")).expect("two of three");
    attack(cluster, copy, 3);
}

#[test]
fn a_peer_that_has_missed_many_lives_takes_the_present_one() {
    let mut cluster = written();
    cluster.nodes = vec![None, None, None];
    for _ in 0..40 {
        cluster.mail.clear();
        cluster.nodes[1] = None;
        cluster.boot(1);
        cluster.run_ms(5);
    }
    // S4: so many ceilings, one above the other, are ahead of the physical clock.
    cluster.run_ms(5_000);
    restart(&mut cluster, &[2]);
    assert_eq!(remembered(&cluster, 2, 1), cluster.node(1).probe().start);
    assert_eq!(cluster.read(2, Level::Strong, "k"), Ok(Some(Bytes::from("acknowledged"))));
}
