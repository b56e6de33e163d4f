//! The nodes that joined a run, and what they say.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use zoo_network::{Endpoint, FrameReceiver, Frames};
use zoo_protocol::{NodeId, Peer};

use crate::links::held;
use crate::message::{FRAME_BYTES_MAX, NodeReport, StagesError, ToNode, ToRun, VERSION, encode, read_to_run};

/// Messages that wait for a node, which may be told of every stage at once and has passes on their way; one that does not read them is gone.
const WAITING_MAX: usize = STAGES_MAX + 64;
/// Stages of a run.
const STAGES_MAX: usize = 256;
/// Who has been told that it is over leaves within this time.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// Nodes of one run.
const NODES_MAX: usize = 1024;

/// Everybody who has said who it is.
pub(crate) struct Members {
    callers: mpsc::Receiver<(NodeId, Frames)>,
    said: mpsc::Sender<Said>,
    hears: mpsc::Receiver<Said>,
    members: BTreeMap<NodeId, Member>,
    /// In the order in which they came.
    order: Vec<NodeId>,
    connections: u64,
    news: VecDeque<News>,
}

/// A node.
pub(crate) struct Member {
    /// Which of its connections.
    connection: u64,
    /// Empty until it has said who it is.
    pub name: String,
    pub peer: Peer,
    pub memory_bytes: Option<u64>,
    pub report: NodeReport,
    messages: mpsc::Sender<(Instant, Vec<u8>)>,
}

/// What happens to them.
pub(crate) enum News {
    Joined(NodeId),
    Said(NodeId, ToRun),
    Gone { node: NodeId, name: String },
}

/// What came over a connection; nothing more when it is gone.
struct Said {
    node: NodeId,
    connection: u64,
    message: Option<ToRun>,
}

impl Members {
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        let (said, hears) = mpsc::channel(256);
        Self {
            callers: endpoint.frames_connections(),
            said,
            hears,
            members: BTreeMap::new(),
            order: Vec::new(),
            connections: 0,
            news: VecDeque::new(),
        }
    }

    /// Whoever joined, in the order in which they came.
    pub(crate) fn order(&self) -> &[NodeId] {
        &self.order
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.members.get_mut(&node)
    }

    /// What people call a node.
    pub(crate) fn name(&self, node: NodeId) -> String {
        self.members.get(&node).map_or_else(|| node.short(), |member| member.name.clone())
    }

    /// Whether a node may take so many bytes.
    pub(crate) fn check_memory(&self, node: NodeId, takes: u64, hint: &str) -> Result<(), StagesError> {
        let Some(member) = self.members.get(&node) else { return Ok(()) };
        let Some(most) = member.memory_bytes.filter(|most| takes > *most) else { return Ok(()) };
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(StagesError::Stuck(format!(
            "{} may take {} MiB, and its stages need {} MiB\nhint: {hint}",
            member.name,
            mib(most),
            mib(takes)
        )))
    }

    /// Waits for news; nothing is lost when nobody waits any more.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            tokio::select! {
                Some((node, frames)) = self.callers.recv() => self.greet(node, frames),
                Some(said) = self.hears.recv() => self.hear(said),
            }
        }
    }

    /// Who does not read what it is told is seen to be gone by its connection.
    pub(crate) fn tell(&self, node: NodeId, message: &ToNode) {
        self.tell_after(node, message, Duration::ZERO);
    }

    /// Tells it after so long; what is told later comes later.
    pub(crate) fn tell_after(&self, node: NodeId, message: &ToNode, latency: Duration) {
        if let Some(member) = self.members.get(&node) {
            let _ = member.messages.try_send((Instant::now() + latency, encode(message)));
        }
    }

    /// Tells a node that it cannot take part; it is one of them no more.
    pub(crate) fn refuse(&mut self, node: NodeId, cause: String) {
        self.tell(node, &ToNode::Refused(cause));
        self.members.remove(&node);
        self.order.retain(|other| *other != node);
    }

    /// Tells everybody that it is over, and waits a moment for them to leave.
    pub(crate) async fn dismiss(mut self) {
        self.order.iter().for_each(|node| self.tell(*node, &ToNode::Over));
        let end = Instant::now() + LEAVE_MAX;
        while !self.order.is_empty() {
            tokio::select! {
                _ = self.next() => {}
                () = sleep_until(end) => return,
            }
        }
    }

    /// Listens to whoever calls; it is a member when it has said who it is.
    fn greet(&mut self, node: NodeId, frames: Frames) {
        if self.members.len() >= NODES_MAX {
            return;
        }
        self.connections += 1;
        let connection = self.connections;
        let (mut sender, receiver) = frames.split();
        let (messages, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some((due, message)) = waiting.recv().await {
                held(due).await;
                if sender.send(&message).await.is_err() {
                    return;
                }
            }
            sender.close().await;
        });
        // Who has not said its name yet is one that says nothing else.
        let peer = Peer { node, addresses: Vec::new() };
        let (name, memory_bytes, report) = (String::new(), None, NodeReport::default());
        let member = Member { connection, name, peer, memory_bytes, report, messages };
        if let Some(before) = self.members.insert(node, member) {
            // The same key again: the node's next process, which hosts nothing.
            self.forget(node, before.name);
        }
        tokio::spawn(listen(node, connection, receiver, self.said.clone()));
    }

    fn hear(&mut self, Said { node, connection, message }: Said) {
        let Some(member) = self.members.get_mut(&node).filter(|member| member.connection == connection)
        else {
            return;
        };
        match message {
            None => {
                let name = std::mem::take(&mut member.name);
                self.members.remove(&node);
                self.forget(node, name);
            }
            Some(ToRun::Hello { version, name, addresses, memory_bytes }) => {
                if version != VERSION {
                    let cause = format!(
                        "the run speaks version {VERSION} of pipelines, this node {version}\nhint: use the same zoo for both"
                    );
                    return self.refuse(node, cause);
                }
                member.name = if name.is_empty() { node.short() } else { name };
                (member.peer.addresses, member.memory_bytes) = (addresses, memory_bytes);
                self.order.retain(|other| *other != node);
                self.order.push(node);
                self.news.push_back(News::Joined(node));
            }
            // Who has not said who it is is told nothing.
            Some(_) if member.name.is_empty() => {}
            Some(message) => self.news.push_back(News::Said(node, message)),
        }
    }

    /// A node's process is gone.
    fn forget(&mut self, node: NodeId, name: String) {
        self.order.retain(|other| *other != node);
        if !name.is_empty() {
            self.news.push_back(News::Gone { node, name });
        }
    }
}

/// Passes on what a node says, until it says nothing that is sound.
async fn listen(node: NodeId, connection: u64, mut receiver: FrameReceiver, said: mpsc::Sender<Said>) {
    while let Ok(Some(frame)) = receiver.recv(FRAME_BYTES_MAX).await {
        let Some(message) = read_to_run(&frame) else { break };
        if said.send(Said { node, connection, message: Some(message) }).await.is_err() {
            return;
        }
    }
    let _ = said.send(Said { node, connection, message: None }).await;
}
