//! iceoryx2: publish/subscribe, one loaned sample for each message, and its events for the wake-up.

use ::iceoryx2::port::listener::Listener;
use ::iceoryx2::port::notifier::Notifier;
use ::iceoryx2::port::publisher::Publisher;
use ::iceoryx2::port::subscriber::Subscriber;
use ::iceoryx2::prelude::*;
use ::iceoryx2::sample_mut::SampleMut;

use super::{End, Job, ServeQueueArgs};
use crate::AnyError;
use crate::queue::args::{Side, Workload};
use crate::queue::loops::{Patience, until};

type Sample = SampleMut<ipc::Service, [u64], ()>;

/// Of one side. Dropped in the order of the fields.
pub(crate) struct Ports {
    publisher: Publisher<ipc::Service, [u64], ()>,
    subscriber: Subscriber<ipc::Service, [u64], ()>,
    notifier: Notifier<ipc::Service>,
    listener: Listener<ipc::Service>,
    _node: Node<ipc::Service>,
    /// 8 bytes each.
    words: usize,
    wake_up: bool,
    wrong: u64,
}

impl Ports {
    pub(crate) fn open(args: &ServeQueueArgs, side: Side) -> Result<Self, AnyError> {
        set_log_level(LogLevel::Error);
        let folder = args.folder.to_str().ok_or("the folder's name is no text")?;
        let name = args.folder.parent().and_then(|run| run.file_name()?.to_str()).ok_or("no folder")?;
        // Files of its own in the run's folder, and memory whose names tell whose it is.
        let mut config = Config::default();
        config.global.set_root_path(&Path::new(folder.as_bytes())?);
        config.global.prefix = FileName::new(format!("{name}_").as_bytes())?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        let messages = |name: &str| -> Result<_, AnyError> {
            // Nothing is thrown away that a slow subscriber has not read yet.
            let service = node.service_builder(&name.try_into()?).publish_subscribe::<[u64]>();
            let service = service.max_publishers(1).max_subscribers(1).max_nodes(2).history_size(0);
            let service = service.enable_safe_overflow(false).subscriber_max_borrowed_samples(2);
            Ok(service.subscriber_max_buffer_size(args.items as usize).open_or_create()?)
        };
        let events = |name: &str| -> Result<_, AnyError> {
            let service = node.service_builder(&name.try_into()?).event();
            Ok(service.max_notifiers(1).max_listeners(1).max_nodes(2).open_or_create()?)
        };
        let (to, from) = if side == Side::A { ("a2b", "b2a") } else { ("b2a", "a2b") };
        let (to_messages, from_messages) = (messages(to)?, messages(from)?);
        let (to_events, from_events) = (events(to)?, events(from)?);
        let publisher = to_messages
            .publisher_builder()
            .initial_max_slice_len(8)
            .max_loaned_samples(2)
            .backpressure_strategy(BackpressureStrategy::DiscardData)
            .create()?;
        Ok(Self {
            publisher,
            subscriber: from_messages.subscriber_builder().create()?,
            notifier: to_events.notifier_builder().create()?,
            listener: from_events.listener_builder().create()?,
            _node: node,
            words: 1,
            wake_up: false,
            wrong: 0,
        })
    }

    #[inline]
    fn loan(&self, number: u64) -> Result<Sample, AnyError> {
        Ok(self.publisher.loan_slice_uninit(self.words)?.write_from_fn(|_| number))
    }

    #[inline]
    fn receive(&mut self, number: u64) -> Result<bool, AnyError> {
        let Some(sample) = self.subscriber.receive()? else { return Ok(false) };
        let bits = sample.payload().iter().fold(0, |bits, word| bits | (word ^ number));
        self.wrong += u64::from(bits != 0);
        Ok(true)
    }
}

impl End for Ports {
    fn prepare(&mut self, job: &Job) -> Result<(), AnyError> {
        self.words = job.shape.bytes as usize / 8;
        self.wake_up = job.shape.workload == Workload::WakeUp;
        self.wrong = 0;
        Ok(())
    }

    #[inline]
    fn put(&mut self, first: u64, _: usize) -> Result<usize, AnyError> {
        if self.wake_up {
            self.notifier.notify()?;
            return Ok(1);
        }
        // The number of those who got it. None: the subscriber's buffer was full, and nothing was sent.
        Ok(self.loan(first)?.send()?)
    }

    #[inline]
    fn take(&mut self, first: u64, _: usize) -> Result<usize, AnyError> {
        self.receive(first).map(usize::from)
    }

    fn take_asleep(&mut self, _: u64) -> Result<(), AnyError> {
        while self.listener.blocking_wait(|_| ())? == 0 {}
        Ok(())
    }

    /// As in iceoryx2's own benchmark the next sample is loaned while the answer is under way.
    fn ping(&mut self, n: u64, patience: &mut Patience, mut lap: impl FnMut()) -> Result<(), AnyError> {
        let mut next = self.loan(0)?;
        for i in 0..n {
            next.send()?;
            next = self.loan(i + 1)?;
            until(patience, || self.receive(i))?;
            lap();
        }
        Ok(())
    }

    fn pong(&mut self, n: u64, patience: &mut Patience) -> Result<(), AnyError> {
        for i in 0..n {
            let answer = self.loan(i)?;
            until(patience, || self.receive(i))?;
            answer.send()?;
        }
        Ok(())
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
