//! Disks that break what was durable: bits that flip at rest, writes that were acknowledged and never reached their sector,
//! writes that landed on another sector (PROTOCOL R6).
//!
//! A budget keeps the damage recoverable: at most a minority of a slot's copies is damaged at a time. Every node that has
//! damage on its disk, or has not healed from it, counts, whatever slots it holds.

use crate::disk::{Disk, SECTOR};
use crate::random::Stream;
use crate::world::World;
use samara_core::base::NodeId;
use samara_core::io::{FileKind, FileName};

/// Bytes of a page of the log.
const PAGE: usize = 4096;

/// What becomes of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A bit flips.
    BitFlip,
    /// It holds what was there before the last write.
    LostWrite,
    /// It holds what belongs elsewhere.
    Misdirected,
}

/// A damaged sector, and what it holds since.
#[derive(Debug, Clone)]
struct Broken {
    file: FileName,
    sector: usize,
    content: Vec<u8>,
}

/// The damage on a disk.
#[derive(Debug, Clone, Default)]
pub struct Breakage {
    broken: Vec<Broken>,
}

impl Breakage {
    /// Forgets what is no longer on the disk: files that are gone or renamed, sectors that were written again.
    fn refresh(&mut self, disk: &Disk) {
        self.broken.retain(|broken| disk.sector(broken.file, broken.sector) == Some(&broken.content));
    }

    fn is_any(&self) -> bool {
        !self.broken.is_empty()
    }

    fn has(&self, kind: FileKind) -> bool {
        self.broken.iter().any(|broken| broken.file.kind == kind)
    }
}

/// The group of the page that begins at `at`, if it was written under the file's present number.
fn group(file: FileName, data: &[u8], at: usize) -> Option<u64> {
    let number = u32::from_le_bytes(data.get(at + 4..at + 8)?.try_into().ok()?);
    let group = u64::from_le_bytes(data.get(at + 8..at + 16)?.try_into().ok()?);
    (number == file.number as u32 && number > 0).then_some(group)
}

/// The sectors of a file whose damage the node can see. A stale sector in the last group of the log cannot be told from a
/// write that was torn: only one with a later group behind it can.
fn targets(file: FileName, data: &[u8], damage: Damage) -> Vec<usize> {
    if file.kind != FileKind::Wal {
        return (0..data.len() / SECTOR).collect();
    }
    let pages = || (0..data.len() / PAGE).filter_map(|page| Some((page, group(file, data, page * PAGE)?)));
    let last = pages().map(|(_, group)| group).max();
    pages()
        .filter(|(_, group)| damage == Damage::BitFlip || Some(*group) < last)
        .flat_map(|(page, _)| (0..PAGE / SECTOR).map(move |sector| page * (PAGE / SECTOR) + sector))
        .collect()
}

/// The sectors of the last group of the log: what was acknowledged last.
fn last_acknowledged(disk: &Disk) -> Vec<(FileName, usize)> {
    let of_file = |(file, data): (FileName, &[u8])| {
        let pages =
            (0..data.len() / PAGE).filter_map(move |page| Some((group(file, data, page * PAGE)?, page)));
        pages.max().map(|(group, page)| (group, file, page))
    };
    let last = disk.durable_files().filter(|(file, _)| file.kind == FileKind::Wal).filter_map(of_file).max();
    last.map_or_else(Vec::new, |(_, file, page)| {
        (0..PAGE / SECTOR).map(|sector| (file, page * (PAGE / SECTOR) + sector)).collect()
    })
}

impl World {
    /// Whether a node may be damaged now: with it, the damaged ones are still a minority of any slot's replicas.
    fn may_damage(&mut self, node: usize) -> bool {
        let most = usize::from(self.plan.replication.saturating_sub(1)) / 2;
        let others = (0..self.machines.len()).filter(|other| *other != node).collect::<Vec<_>>();
        if self.has_impostor() {
            return false;
        }
        let impaired = others.into_iter().filter(|other| self.is_impaired(*other)).count();
        impaired < most
    }

    /// Whether a node is not known to have got over its damage.
    pub(crate) fn is_impaired(&mut self, node: usize) -> bool {
        let machine = &mut self.machines[node];
        machine.breakage.refresh(&machine.disk);
        let heals = machine.node.as_ref().is_some_and(|node| node.suspect_probe().stretches == 0);
        if machine.impaired && machine.ready && heals && !machine.breakage.is_any() {
            machine.impaired = false;
        }
        machine.impaired
    }

    /// Whether the disk of a node still holds damaged tables. Damage in the log of a running node hurts only at a restart,
    /// and is gone when the memtable is flushed.
    pub(crate) fn has_damaged_tables(&mut self, node: usize) -> bool {
        let machine = &mut self.machines[node];
        machine.breakage.refresh(&machine.disk);
        machine.breakage.has(FileKind::Table)
    }

    /// A sector of a node's disk breaks.
    pub(crate) fn damage(&mut self, node: usize, damage: Damage) {
        if !self.may_damage(node) {
            return self.meet("damage_spared");
        }
        let machine = &mut self.machines[node];
        machine.breakage.refresh(&machine.disk);
        // One place of the log at a time: a second one could take the evidence of the first away.
        let is_log_whole = !machine.breakage.has(FileKind::Wal);
        let kind = match machine.disk_random.below(10) {
            0..4 if is_log_whole => FileKind::Wal,
            9 => FileKind::Value,
            _ => FileKind::Table,
        };
        let files = machine.disk.durable_files().filter(|(file, _)| file.kind == kind);
        let places: Vec<(FileName, usize)> = files
            .flat_map(|(file, data)| {
                targets(file, data, damage).into_iter().map(move |sector| (file, sector))
            })
            .filter(|(file, sector)| !machine.disk.is_dirty(*file, *sector))
            .collect();
        self.break_one(node, &places, damage);
    }

    /// A node loses its power right after an acknowledgement, and what it acknowledged is damaged.
    pub(crate) fn damage_after_ack(&mut self, node: usize) {
        if !self.may_damage(node) || self.machines[node].breakage.has(FileKind::Wal) {
            return self.meet("damage_spared");
        }
        let places = last_acknowledged(&self.machines[node].disk);
        self.break_one(node, &places, Damage::BitFlip);
    }

    fn break_one(&mut self, node: usize, places: &[(FileName, usize)], damage: Damage) {
        if places.is_empty() {
            return;
        }
        let machine = &mut self.machines[node];
        let random = &mut machine.disk_random;
        let (file, sector) = *random.pick(places);
        let other = *random.pick(places);
        let Some(content) = broken_content(&machine.disk, (file, sector), other, damage, random) else {
            return;
        };
        machine.disk.set_sector(file, sector, &content);
        machine.breakage.broken.push(Broken { file, sector, content });
        machine.impaired = true;
        self.log(|| format!("n{}: {damage:?} in sector {sector} of {file}", node + 1));
        self.meet(match damage {
            Damage::BitFlip => "bit_flipped",
            Damage::LostWrite => "write_lost",
            Damage::Misdirected => "write_misdirected",
        });
    }

    /// After a step: a node that has found damage may show less than it held, and has no vote until it is healed.
    pub(crate) fn watch_suspects(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let Some(core) = &machine.node else { return };
        let name = NodeId(node as u16 + 1);
        let is_any = core.suspect_probe().stretches > 0;
        if is_any {
            self.monitor.on_suspect(name, |key| core.is_suspect(key));
        }
        if machine.ready
            && (is_any || self.suspects.concerns(name))
            && let Err(broken) = self.suspects.look(name, core)
        {
            self.failure.get_or_insert(broken);
        }
    }
}

/// What a sector holds once it is broken; `None` if that is what it holds already.
fn broken_content(
    disk: &Disk,
    (file, sector): (FileName, usize),
    other: (FileName, usize),
    damage: Damage,
    random: &mut Stream,
) -> Option<Vec<u8>> {
    let held = disk.sector(file, sector)?.to_vec();
    let mut content = held.clone();
    match damage {
        Damage::BitFlip => {
            let bit = random.below(content.len() as u64 * 8) as usize;
            content[bit / 8] ^= 1 << (bit % 8);
        }
        Damage::LostWrite => content.fill(0),
        Damage::Misdirected => {
            let from = disk.sector(other.0, other.1)?;
            let len = content.len().min(from.len());
            content[..len].copy_from_slice(&from[..len]);
        }
    }
    (content != held).then_some(content)
}
