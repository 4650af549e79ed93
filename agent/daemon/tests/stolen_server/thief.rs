//! Who holds the server and one admin's key, and what he can say.

use super::*;

pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

/// What an order says; the thief has many of them, honest and own.
#[derive(Clone)]
pub struct Paper {
    pub order: OrderId,
    pub what: What,
    pub warrant: Warrant,
}

#[derive(Clone, PartialEq)]
pub enum What {
    Quarantine {
        allow: Vec<Allowed>,
        life: Option<Millis>,
    },
    Once(Once),
}

impl What {
    pub fn endorsed(&self) -> Endorsed<'_> {
        match self {
            Self::Quarantine { allow, life } => Endorsed::Quarantine { allow, life: *life },
            Self::Once(once) => Endorsed::Once(*once),
        }
    }
}

pub struct Keys(pub Vec<(Ed25519KeyPair, [u8; 32])>);

impl Keys {
    pub fn new() -> Self {
        let pair = |seed| {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let public = pair.public_key().as_ref().try_into().unwrap();
            (pair, public)
        };
        Self([1, 2, 3].map(pair).into())
    }

    pub fn pinned(&self) -> Vec<[u8; 32]> {
        self.0.iter().map(|(_, public)| *public).collect()
    }

    pub fn id(&self, who: usize) -> KeyId {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0[who].1);
        KeyId(digest.as_ref().try_into().unwrap())
    }

    pub fn sign(&self, who: usize, paper: &Paper) -> Signature {
        let said = said(paper);
        Signature {
            key: self.id(who),
            signature: self.0[who].0.sign(&said).as_ref().to_vec(),
        }
    }
}

pub fn said(paper: &Paper) -> Vec<u8> {
    let targets = paper.warrant.targets.as_ref().unwrap();
    statement(
        paper.order,
        paper.what.endorsed(),
        paper.warrant.not_after_unix_ms,
        targets.count,
        &targets.root,
    )
}

/// The proof that a host is among these, and the claim where it is not.
pub fn targets(hosts: &[u64], of: u64) -> Targets {
    let leaves: Vec<Sha256> = hosts
        .iter()
        .map(|id| merkle::leaf(&id.to_be_bytes()))
        .collect();
    let mut tree = merkle::Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    let index = hosts.iter().position(|id| *id == of).unwrap_or(0) as u64;
    let range = tree.needs(index);
    let held = &leaves[range.start as usize..range.end as usize];
    Targets {
        count: hosts.len() as u64,
        root: tree.head().root,
        index,
        proof: tree.inclusion(index, held).unwrap(),
    }
}

/// What honest people signed once, before the server was stolen.
pub struct Archive {
    pub papers: Vec<Paper>,
    /// Statements with an honest signature that name this host, by order.
    pub honest: BTreeMap<OrderId, (What, u64)>,
}

pub fn what(chance: &mut Chance) -> What {
    match chance.below(6) {
        0 => What::Once(Once::Collect),
        1 | 2 => What::Once(Once::Reboot),
        _ => What::Quarantine {
            allow: match chance.one_in(2) {
                true => vec!["10.0.0.1".parse().unwrap()],
                false => Vec::new(),
            },
            life: chance
                .one_in(2)
                .then(|| Millis::mins(1 + chance.below(300))),
        },
    }
}

pub fn archive(chance: &mut Chance, keys: &Keys) -> Archive {
    let (mut papers, mut honest) = (Vec::new(), BTreeMap::new());
    for n in 0..10 {
        let mut hosts: BTreeSet<u64> = (0..1 + chance.below(6))
            .map(|_| 1 + chance.below(20))
            .collect();
        let named = !chance.one_in(4);
        match named {
            true => hosts.insert(HOST.0),
            false => hosts.remove(&HOST.0) && hosts.is_empty() && hosts.insert(1),
        };
        let hosts: Vec<u64> = hosts.into_iter().chain([99]).collect();
        let mut paper = Paper {
            order: OrderId(100 + n),
            what: what(chance),
            warrant: Warrant {
                origin: Origin::TwoPersons,
                not_after_unix_ms: Millis::hours(1 + chance.below(200)).0,
                targets: Some(targets(&hosts, HOST.0)),
                endorsements: Vec::new(),
            },
        };
        for who in 0..1 + chance.below(2) as usize {
            let signature = keys.sign(who, &paper);
            paper.warrant.endorsements.push(signature);
        }
        if named {
            let known = (paper.what.clone(), paper.warrant.not_after_unix_ms);
            honest.insert(paper.order, known);
        }
        papers.push(paper);
    }
    Archive { papers, honest }
}

/// The thief: every paper he ever saw, his own key, and no shame.
pub struct Thief {
    pub archive: Archive,
    pub generation: u64,
    pub said: Vec<Desired>,
}

impl Thief {
    pub fn paper(&mut self, chance: &mut Chance, keys: &Keys) -> Paper {
        let mut paper = chance.of(&self.archive.papers).clone();
        let other = chance.of(&self.archive.papers).clone();
        for _ in 0..chance.below(3) {
            match chance.below(9) {
                0 => paper.order = OrderId(100 + chance.below(30)),
                1 => paper.what = what(chance),
                2 => paper.warrant.not_after_unix_ms = Millis::hours(chance.below(500)).0,
                3 => paper.warrant.targets = other.warrant.targets.clone(),
                4 => paper.warrant.endorsements = other.warrant.endorsements.clone(),
                5 => paper
                    .warrant
                    .endorsements
                    .extend(other.warrant.endorsements.clone()),
                6 => paper.warrant.targets = Some(targets(&[HOST.0], HOST.0)),
                7 => paper.warrant.endorsements.truncate(1),
                _ => paper.warrant.targets = None,
            }
        }
        if paper.warrant.targets.is_some() && !chance.one_in(3) {
            let own = keys.sign(THIEF, &paper);
            for _ in 0..=chance.below(2) {
                paper.warrant.endorsements.push(own.clone());
            }
        }
        // A signature of one key under the name of another.
        if chance.one_in(8)
            && let Some(last) = paper.warrant.endorsements.last().cloned()
        {
            paper.warrant.endorsements.push(Signature {
                key: keys.id(chance.below(2) as usize),
                ..last
            });
        }
        let origins = [Origin::Automatic, Origin::Person, Origin::TwoPersons];
        paper.warrant.origin = *chance.of(&origins);
        paper
    }

    pub fn says(&mut self, chance: &mut Chance, keys: &Keys) -> Desired {
        if !self.said.is_empty() && chance.one_in(6) {
            return chance.of(&self.said).clone();
        }
        let mut orders = OrdersDesired {
            containment: match chance.one_in(6) {
                true => Containment::Open,
                false => Containment::Unsaid,
            },
            ..OrdersDesired::default()
        };
        for _ in 0..1 + chance.below(4) {
            let paper = self.paper(chance, keys);
            put(&mut orders, paper);
        }
        self.generation += chance.below(4) / 2;
        let desired = desired(self.generation, orders);
        self.said.push(desired.clone());
        if self.said.len() > 16 {
            self.said.remove(0);
        }
        desired
    }

    /// One order under two contents: what is wanted, and beside it what honest people signed under
    /// the same id, in a state that the host will not take.
    pub fn swaps(&mut self, chance: &mut Chance) -> [Desired; 2] {
        let genuine = chance.of(&self.archive.papers).clone();
        let mut wanted = genuine.clone();
        wanted.what = what(chance);
        self.generation += 1;
        let [now, before] = [wanted, genuine].map(|paper| {
            let mut orders = OrdersDesired::default();
            put(&mut orders, paper);
            orders
        });
        let older = self.generation - chance.below(2);
        [desired(self.generation, now), desired(older, before)]
    }
}

pub fn put(orders: &mut OrdersDesired, paper: Paper) {
    match paper.what {
        What::Once(act) => orders.once.push(Order {
            id: paper.order,
            act,
            warrant: paper.warrant,
        }),
        What::Quarantine { allow, life } => {
            orders.containment = Containment::Quarantined(Box::new(Quarantine {
                order: paper.order,
                allow,
                life,
                warrant: paper.warrant,
            }));
        }
    }
}

pub fn desired(generation: u64, orders: OrdersDesired) -> Desired {
    Desired {
        epoch: Epoch(1),
        generation: Generation(generation),
        assignments: Vec::new(),
        bars: Vec::new(),
        lifted: Vec::new(),
        heartbeat: Millis::secs(10),
        orders,
        stopped: false,
    }
}
